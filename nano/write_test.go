package nano

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"cfgd/internal/xzguard"
)

// slice is a slice in memory. It can fail, and knows what a power cut would leave.
type slice struct {
	data, stable []byte
	ops, failAt  int
	flip         int64 // a byte that the disk loses; -1 for none
}

var errDisk = errors.New("disk error")

func newSlice(size int) *slice {
	s := &slice{data: bytes.Repeat([]byte("old system "), size/11+1)[:size], failAt: -1, flip: -1}
	s.stable = bytes.Clone(s.data)
	return s
}

func (s *slice) op() error {
	if s.ops++; s.ops-1 == s.failAt {
		return errDisk
	}
	return nil
}

func (s *slice) ReadAt(p []byte, at int64) (int, error) {
	if at%sector != 0 || len(p)%sector != 0 {
		return 0, errors.New("not whole sectors")
	}
	if err := s.op(); err != nil {
		return 0, err
	}
	return copy(p, s.data[at:]), nil
}

func (s *slice) WriteAt(p []byte, at int64) (int, error) {
	if at%sector != 0 || len(p)%sector != 0 {
		return 0, errors.New("not whole sectors")
	}
	if err := s.op(); err != nil {
		return 0, err
	}
	n := copy(s.data[at:], p)
	if s.flip >= at && s.flip < at+int64(n) {
		s.data[s.flip] ^= 1
	}
	return n, nil
}

func (s *slice) Sync() error {
	if err := s.op(); err != nil {
		return err
	}
	copy(s.stable, s.data)
	return nil
}

func randomImage(size int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func nothing(int64) {}

func ok([]byte, int64) error { return nil }

func TestPour(t *testing.T) {
	t.Parallel()
	for _, size := range []int{sector, blockSize - sector, blockSize, blockSize + sector, 3*blockSize +
		7*sector, 5 * blockSize} {
		img, dst := randomImage(size), newSlice(5*blockSize)
		last := int64(0)
		n, err := pour(t.Context(), dst, int64(len(dst.data)), bytes.NewReader(img), ok,
			func(n int64) { last = n })
		if err != nil || n != int64(size) || last != n {
			t.Fatalf("%d: %d (%d), %v", size, n, last, err)
		}
		if !bytes.Equal(dst.stable[:size], img) {
			t.Errorf("%d: another image stands there", size)
		}
	}
}

// Whatever fails, the slice has the whole old system, or does not boot, and the error says so.
func TestPourFails(t *testing.T) {
	t.Parallel()
	img := randomImage(3*blockSize + sector)
	old := newSlice(4 * blockSize).data
	for n := 0; ; n++ {
		dst := newSlice(4 * blockSize)
		dst.failAt = n
		_, err := pour(t.Context(), dst, int64(len(dst.data)), bytes.NewReader(img), ok, nothing)
		if dst.ops <= n {
			if err != nil || n < 10 {
				t.Fatalf("%d operations, %v", n, err)
			}
			return
		}
		if !errors.Is(err, errDisk) {
			t.Fatalf("operation %d: %v", n, err)
		}
		for _, state := range [][]byte{dst.stable, dst.data} {
			boots := !bytes.Equal(state[:blockSize], zeros[:])
			if boots && !bytes.Equal(state, old) && !(bytes.Equal(state[:len(img)], img)) {
				t.Fatalf("operation %d: a slice that is neither old nor new boots", n)
			}
		}
		if n > 1 && !strings.Contains(err.Error(), "does not boot") {
			t.Errorf("operation %d: %v", n, err)
		}
	}
}

func TestPourRefuses(t *testing.T) {
	t.Parallel()
	img := randomImage(3 * blockSize)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	bad := errors.New("another digest")
	for name, c := range map[string]struct {
		ctx     context.Context
		src     io.Reader
		size    int64
		whole   func([]byte, int64) error
		want    error
		touched bool
	}{
		"a slice smaller than a block": {t.Context(), bytes.NewReader(img), blockSize - sector, ok,
			ErrTooLarge, false},
		"a slice too small": {t.Context(), bytes.NewReader(img), 3*blockSize - sector, ok,
			ErrTooLarge, true},
		"no whole sectors": {t.Context(), bytes.NewReader(img[:2*blockSize+7]), 4 * blockSize, ok,
			errCut, true},
		"no whole sector": {t.Context(), bytes.NewReader(img[:7]), 4 * blockSize, ok, errCut,
			false},
		"nothing": {t.Context(), bytes.NewReader(nil), 4 * blockSize, ok, errCut, false},
		"interrupted at once": {canceled, bytes.NewReader(img), 4 * blockSize, ok, context.Canceled,
			false},
		"another digest": {t.Context(), bytes.NewReader(img), 4 * blockSize,
			func([]byte, int64) error { return bad }, bad, true},
		"an error of the source": {t.Context(), io.MultiReader(bytes.NewReader(img), errReader{}),
			4 * blockSize, ok, errDisk, true},
	} {
		dst := newSlice(4 * blockSize)
		_, err := pour(c.ctx, dst, c.size, c.src, c.whole, nothing)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if zeroed := bytes.Equal(dst.stable[:sector], zeros[:sector]); zeroed != c.touched {
			t.Errorf("%s: boot blocks cleared: %v", name, zeroed)
		}
	}
	// Interrupted in the middle.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	dst := newSlice(4 * blockSize)
	_, err := pour(ctx, dst, 4*blockSize, bytes.NewReader(img), ok, func(int64) { stop() })
	if !errors.Is(err, context.Canceled) || !bytes.Equal(dst.data[:blockSize], zeros[:]) {
		t.Errorf("%v", err)
	}
	// A disk that loses data.
	for _, at := range []int64{5, 2*blockSize + 5} {
		dst := newSlice(4 * blockSize)
		dst.flip = at
		if _, err := pour(t.Context(), dst, 4*blockSize, bytes.NewReader(img), ok, nothing); err == nil ||
			!strings.Contains(err.Error(), "the disk is failing") {
			t.Errorf("%d: %v", at, err)
		}
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errDisk }

// packed returns an image in every form.
func packed(t *testing.T, img []byte) map[string][]byte {
	out := map[string][]byte{"plain": img}
	pack := func(name string, open func(w io.Writer) (io.WriteCloser, error)) {
		var b bytes.Buffer
		w, err := open(&b)
		if err == nil {
			_, err = w.Write(img)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		out[name] = b.Bytes()
	}
	pack("gzip", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	pack("xz", func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
	pack("zstd", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	return out
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	img := append(bytes.Repeat([]byte("text that packs "), 40000), randomImage(300000)...)
	for form, b := range packed(t, img) {
		s, err := unpack(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		got, err := io.ReadAll(io.LimitReader(s, 1000))
		if err != nil || s.form != form || !bytes.Equal(got, img[:1000]) {
			t.Errorf("%s: %s, %v", form, s.form, err)
		}
		digest, err := s.finish()
		if err != nil || digest != sha256.Sum256(b) || s.raw.n != int64(len(b)) {
			t.Errorf("%s: %x of %d bytes, %v", form, digest, s.raw.n, err)
		}
		s.end()
		if form == "plain" {
			continue
		}
		// Cut off, and with a changed byte: both are found.
		damaged := bytes.Clone(b)
		damaged[len(b)/2] ^= 0x10
		for what, bad := range map[string][]byte{"cut off": b[:len(b)-9], "cut in the middle": b[:len(b)/2],
			"changed": damaged, "nothing but magic": b[:6]} {
			s, err := unpack(bytes.NewReader(bad))
			if err == nil {
				_, err = s.finish()
				s.end()
			}
			if err == nil || !strings.HasPrefix(err.Error(), form+": ") ||
				strings.HasPrefix(what, "cut") && !errors.Is(err, errCut) {
				t.Errorf("%s %s: %v", form, what, err)
			}
		}
	}
}

// Unpacking stops where the slice ends, however small the input is.
func TestBomb(t *testing.T) {
	t.Parallel()
	for form, b := range packed(t, make([]byte, 16<<20)) {
		if form == "plain" {
			continue
		}
		s, err := unpack(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		dst := newSlice(4 * blockSize)
		if _, err := pour(t.Context(), dst, 4*blockSize, s, ok, nothing); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", form, err)
		}
		s.end()
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
	f.Add([]byte("\xfd7zXZ\x00\x00\x04"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := unpack(bytes.NewReader(b))
		if err != nil {
			return
		}
		defer s.end()
		n, err := io.Copy(io.Discard, io.LimitReader(s, 8<<20))
		if s.form == "plain" && (n != int64(len(b)) || err != nil) {
			t.Error(fmt.Errorf("%d of %d bytes: %w", n, len(b), err))
		}
	})
}

// A disk reads only whole sectors. Other ranges can be read too, but nothing outside of the slice.
func TestPartOfADisk(t *testing.T) {
	t.Parallel()
	d := newSlice(10 * sector)
	p := &part{d, 2 * sector, 6 * sector}
	for _, c := range [][2]int64{{0, 6 * sector}, {0, 1}, {511, 2}, {500, 1000}, {6*sector - 1, 1},
		{1, 6*sector - 1}, {sector, sector}} {
		b := make([]byte, c[1])
		if n, err := p.ReadAt(b, c[0]); err != nil || n != len(b) ||
			!bytes.Equal(b, d.data[2*sector+c[0]:2*sector+c[0]+c[1]]) {
			t.Errorf("%v: %d, %v", c, n, err)
		}
	}
	b := make([]byte, 100)
	if n, err := p.ReadAt(b, 6*sector-40); n != 40 || err != io.EOF {
		t.Errorf("over the end: %d, %v", n, err)
	}
	if _, err := p.ReadAt(b, 7*sector); err == nil {
		t.Error("behind the end")
	}
	if _, err := p.WriteAt(make([]byte, sector), 6*sector); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestPatched(t *testing.T) {
	t.Parallel()
	d := newSlice(4 * blockSize)
	p := &patched{&part{d, 0, int64(len(d.data))}, bytes.Repeat([]byte{'f'}, blockSize)}
	b := make([]byte, 20)
	if n, err := p.ReadAt(b, blockSize-10); err != nil || n != 20 || string(b[:10]) != "ffffffffff" ||
		!bytes.Equal(b[10:], d.data[blockSize:blockSize+10]) {
		t.Errorf("%d, %v: %q", n, err, b)
	}
	if err := errors.Join(p.set([]byte("x"), 7), p.set([]byte("y"), 2*blockSize+700)); err != nil ||
		p.first[7] != 'x' || d.data[7] == 'x' || d.stable[2*blockSize+700] != 'y' {
		t.Errorf("%v", err)
	}
}

func unpacks(b, want []byte) error {
	s, err := unpack(bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer s.end()
	got, err := io.ReadAll(s)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("other content")
	}
	return err
}

// The memory that a file asks for is bounded before it is allocated: the dictionary of xz, the window of
// zstd. The output of xz -9 can be unpacked.
func TestDictionaries(t *testing.T) {
	t.Parallel()
	img := bytes.Repeat([]byte("text that packs "), 4000)
	for name, c := range map[string]struct {
		cap int
		ok  bool
	}{
		"small": {1 << 16, true}, "xz -9": {xzguard.MaxDictionary, true},
		"larger":  {xzguard.MaxDictionary * 2, false},
		"1.5 GiB": {1536 << 20, false},
	} {
		b := packed(t, img)["xz"]
		at := 12 + 4 // of the first block's header: its size, flags, 0x21, 1, and the dictionary
		if b[at-2] != 0x21 || b[at-1] != 1 {
			t.Fatalf("another header: %x", b[:32])
		}
		b[at] = lzma.EncodeDictCap(int64(c.cap))
		end := 12 + (int(b[12])+1)*4
		binary.LittleEndian.PutUint32(b[end-4:], crc32.ChecksumIEEE(b[12:end-4]))
		// One that follows another stream is found as well, with zeros between them.
		second := append(append(packed(t, img)["xz"], 0, 0, 0, 0), b...)
		err := errors.Join(unpacks(b, img), unpacks(second, append(bytes.Clone(img), img...)))
		if (err == nil) != c.ok || !c.ok && !strings.Contains(err.Error(), "it takes a dictionary of") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tool, err := exec.LookPath("xz"); err == nil { // many blocks, and content that packs and that does not
		long := append(append(randomImage(300<<10), img...), randomImage(1000)...)
		for _, args := range [][]string{{"-T2", "--block-size=50000"}, {"-9", "--check=sha256"},
			{"-0", "--check=none"}, {"--block-list=1,100000,0"}} {
			c := exec.Command(tool, append(args, "-c")...)
			c.Stdin = bytes.NewReader(long)
			b, err := c.Output()
			if err == nil {
				err = unpacks(b, long)
			}
			if err == nil {
				err = unpacks(append(bytes.Clone(b), b...), append(bytes.Clone(long), long...))
			}
			if err != nil {
				t.Errorf("%q: %v", args, err)
			}
		}
	}
	for window, ok := range map[int]bool{8 << 20: true, xzguard.MaxDictionary * 2: false} {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		for range 300 { // a window is written where the content's size is not known
			if _, err := w.Write(img); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := unpack(&b)
		if err == nil {
			_, err = s.finish()
			s.end()
		}
		if (err == nil) != ok ||
			!ok && !strings.Contains(err.Error(), "it takes a window of more than 64 MiB") {
			t.Errorf("zstd with a window of %d: %v", window, err)
		}
	}
}

// slowReader returns from its read when the test lets it.
type slowReader struct{ entered, goOn chan struct{} }

func (r slowReader) Read(p []byte) (int, error) {
	close(r.entered)
	<-r.goOn
	return len(p), nil
}

// The end of a stream closes it once: immediately, or when a read in progress returns.
func TestEndOfAStream(t *testing.T) {
	t.Parallel()
	closed := 0
	s := &stream{Reader: bytes.NewReader(nil), close: func() { closed++ }}
	s.end()
	s.end()
	if _, err := s.Read(make([]byte, 1)); closed != 1 || !errors.Is(err, errEnded) {
		t.Errorf("closed %d times, %v", closed, err)
	}
	r := slowReader{make(chan struct{}), make(chan struct{})}
	closed, s = 0, &stream{Reader: r, close: func() { closed++ }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.Read(make([]byte, 1))
	}()
	<-r.entered
	s.end()
	if closed != 0 {
		t.Error("closed while it was read")
	}
	close(r.goOn)
	if <-done; closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}
