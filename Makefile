# For make(1) of FreeBSD and for GNU make.
#   make install [DESTDIR=/stage] [PREFIX=/usr/local]
#           installs the program, its links, manual pages, rc.d and periodic scripts, and samples
#   make release
#           makes dist/: the programs for FreeBSD and Linux on amd64 and arm64, and their checksums
DESTDIR =
PREFIX = /usr/local
GO = go
# The go command stamps the version into the program. Nothing of the machine that builds it is in it.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-buildid=

all: cfgd

cfgd: always
	$(BUILD) -o cfgd ./cmd/cfgd

always:

DEST = $(DESTDIR)$(PREFIX)

install: cfgd
	install -d "$(DEST)/sbin" "$(DEST)/etc/rc.d" "$(DEST)/etc/periodic/daily" \
	    "$(DEST)/share/man/man5" "$(DEST)/share/man/man8" "$(DEST)/share/examples/cfgd"
	install -m 0755 cfgd "$(DEST)/sbin/cfgd"
	ln -sf cfgd "$(DEST)/sbin/jail_etc_init"
	ln -sf cfgd "$(DEST)/sbin/jail_etc_cleanup"
	install -m 0755 contrib/rc.d/cfgd contrib/rc.d/cfgd_early "$(DEST)/etc/rc.d/"
	install -m 0755 contrib/periodic/480.cfgd "$(DEST)/etc/periodic/daily/"
	install -m 0644 cmd/cfgd/cfgd.toml.sample "$(DEST)/etc/cfgd.toml.sample"
	install -m 0644 man/cfgd.toml.5 man/cfgd-store.5 "$(DEST)/share/man/man5/"
	install -m 0644 man/cfgd.8 "$(DEST)/share/man/man8/"
	install -m 0644 contrib/rc.conf.sample contrib/jail.conf.sample contrib/fstab.sample \
	    contrib/prometheus/cfgd.rules.yml contrib/nanobsd/cfgd.conf "$(DEST)/share/examples/cfgd/"

release:
	rm -rf dist
	mkdir dist
	for target in freebsd/amd64 freebsd/arm64 linux/amd64 linux/arm64; do \
		os=$${target%/*} arch=$${target#*/}; \
		GOOS=$$os GOARCH=$$arch $(BUILD) -o "dist/cfgd-$$os-$$arch" ./cmd/cfgd || exit 1; \
	done
	cd dist && { sha256sum cfgd-* >SHA256 2>/dev/null || sha256 -r cfgd-* >SHA256; }

test:
	$(GO) test -shuffle=on ./...

clean:
	rm -rf cfgd dist
