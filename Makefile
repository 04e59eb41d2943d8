# For make(1) of FreeBSD and GNU make alike.
#   make install [DESTDIR=/stage] [PREFIX=/usr/local]    the program, its links, manual pages, rc.d and periodic scripts, samples
#   make release                                         dist/: archives for FreeBSD and Linux on amd64 and arm64, and their checksums
DESTDIR =
PREFIX = /usr/local
GO = go
# The version is what the go command stamps the program with; nothing of the machine that builds it is in it.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-buildid=

all: cfgd

cfgd: always
	$(BUILD) -o cfgd ./cmd/cfgd

always:

install: cfgd
	install -d "$(DESTDIR)$(PREFIX)/sbin" "$(DESTDIR)$(PREFIX)/etc/rc.d" "$(DESTDIR)$(PREFIX)/etc/periodic/daily" \
	    "$(DESTDIR)$(PREFIX)/share/man/man5" "$(DESTDIR)$(PREFIX)/share/man/man8" "$(DESTDIR)$(PREFIX)/share/examples/cfgd"
	install -m 0755 cfgd "$(DESTDIR)$(PREFIX)/sbin/cfgd"
	ln -sf cfgd "$(DESTDIR)$(PREFIX)/sbin/jail_etc_init"
	ln -sf cfgd "$(DESTDIR)$(PREFIX)/sbin/jail_etc_cleanup"
	install -m 0755 contrib/rc.d/cfgd contrib/rc.d/cfgd_early "$(DESTDIR)$(PREFIX)/etc/rc.d/"
	install -m 0755 contrib/periodic/480.cfgd "$(DESTDIR)$(PREFIX)/etc/periodic/daily/"
	install -m 0644 cmd/cfgd/cfgd.toml.sample "$(DESTDIR)$(PREFIX)/etc/cfgd.toml.sample"
	install -m 0644 man/cfgd.toml.5 man/cfgd-store.5 "$(DESTDIR)$(PREFIX)/share/man/man5/"
	install -m 0644 man/cfgd.8 "$(DESTDIR)$(PREFIX)/share/man/man8/"
	install -m 0644 contrib/rc.conf.sample contrib/jail.conf.sample contrib/fstab.sample contrib/prometheus/cfgd.rules.yml contrib/nanobsd/cfgd.conf \
	    "$(DESTDIR)$(PREFIX)/share/examples/cfgd/"

release:
	rm -rf dist
	mkdir dist
	for target in freebsd/amd64 freebsd/arm64 linux/amd64 linux/arm64; do \
		GOOS=$${target%/*} GOARCH=$${target#*/} $(BUILD) -o "dist/cfgd-$${target%/*}-$${target#*/}" ./cmd/cfgd || exit 1; \
	done
	cd dist && { sha256sum cfgd-* >SHA256 2>/dev/null || sha256 -r cfgd-* >SHA256; }

test:
	$(GO) test -shuffle=on ./...

clean:
	rm -rf cfgd dist
