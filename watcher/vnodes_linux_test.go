package watcher

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/overlay"
	"cfgd/watcher/control"
)

// notifyQueue plays kqueue(2) by inotify(7): the source of FreeBSD runs here, over another kernel's events.
type notifyQueue struct {
	in      int
	wake    [2]int // a pipe
	rest    []byte // read, and not told yet
	watches atomic.Int64
	fail    atomic.Int64 // from which watch on descriptors are short; 0 for never

	mu sync.Mutex // guards wd
	wd map[int32]int
}

func newNotifyQueue(t testing.TB) *notifyQueue {
	q := &notifyQueue{wd: map[int32]int{}}
	var err error
	if q.in, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		t.Skipf("no inotify: %v", err)
	}
	if err := unix.Pipe2(q.wake[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return q
}

func (q *notifyQueue) watch(fd int) error {
	n := q.watches.Add(1)
	if f := q.fail.Load(); f > 0 && n >= f {
		return unix.ENOMEM
	}
	const mask = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM |
		unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	wd, err := unix.InotifyAddWatch(q.in, fmt.Sprintf("/proc/self/fd/%d", fd), mask)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wd[int32(wd)] = fd // one of several links to an inode hears: so little is relied on
	return nil
}

func (q *notifyQueue) wait(events []vnodeEvent) (int, error) {
	for {
		if n := q.parse(events); n > 0 {
			return n, nil
		}
		poll := []unix.PollFd{
			{Fd: int32(q.in), Events: unix.POLLIN}, {Fd: int32(q.wake[0]), Events: unix.POLLIN},
		}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		if poll[1].Revents != 0 {
			return 0, nil
		}
		buf := make([]byte, 4096)
		n, err := unix.Read(q.in, buf)
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		q.rest = buf[:max(n, 0)]
	}
}

func (q *notifyQueue) parse(events []vnodeEvent) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.rest) >= unix.SizeofInotifyEvent && n < len(events) {
		wd, mask := int32(binary.NativeEndian.Uint32(q.rest)), binary.NativeEndian.Uint32(q.rest[4:])
		q.rest = q.rest[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(q.rest[12:]):]
		fd, ok := q.wd[wd]
		if !ok {
			continue
		}
		var st unix.Stat_t
		linked := mask&unix.IN_ATTRIB != 0
		unlinked := linked && unix.Fstat(fd, &st) == nil && st.Nlink == 0
		gone := unlinked || mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0
		events[n] = vnodeEvent{fd: fd, gone: gone, linked: linked}
		n++
	}
	return n
}

func (q *notifyQueue) stop() error {
	_, err := unix.Write(q.wake[1], []byte{0})
	return err
}

func (q *notifyQueue) close() error {
	return errors.Join(unix.Close(q.in), unix.Close(q.wake[0]), unix.Close(q.wake[1]))
}

// vnodeMachine is a machine whose targets watch as on FreeBSD.
func vnodeMachine(t testing.TB, jails int, prepare func(*notifyQueue)) (
	m *machine, last *atomic.Pointer[notifyQueue],
) {
	m, last = newMachine(t, jails), &atomic.Pointer[notifyQueue]{}
	m.d.hook = func(tg *target) {
		tg.open = func(o *overlay.Overlay, e *collector) (source, error) {
			q := newNotifyQueue(t)
			if prepare != nil {
				prepare(q)
			}
			last.Store(q)
			return newVnodes(o, e, q), nil
		}
	}
	return m, last
}

func TestVnodes(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*testing.T, *machine){
		"new directories": followed, "detach": letsGo,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, _ := vnodeMachine(t, 1, nil)
			f(t, m)
		})
	}
}

// A crowd of files costs a watch each.
func TestVnodesOfACrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 10,000 files")
	}
	t.Parallel()
	const many = 10000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < many+2000 {
		t.Skipf("only %d descriptors", limit.Cur)
	}
	m, last := vnodeMachine(t, 1, nil)
	crowd(t, m, many)
	// A flush comes after the scan that saved them, which ends with watching.
	_, err := m.client().Flush(t.Context(), control.Request{Target: "j0"})
	m.must(err)
	if n := last.Load().watches.Load(); n < many || n > many+100 {
		t.Errorf("%d watches for %d files", n, many)
	}
}

// Writes that go to a file while it is being opened for watching are seen.
func TestVnodesMissNothing(t *testing.T) {
	t.Parallel()
	m, _ := vnodeMachine(t, 1, nil)
	m.run()
	last := map[string]string{}
	for i := range 300 {
		p := fmt.Sprintf("d%d/f%d", i%7, i%40)
		last[p] = fmt.Sprint(i)
		m.write("j0/etc/"+p, last[p])
		if i%50 == 49 {
			m.await("j0", "saved once more", func(s control.Status) bool {
				return s.Unsaved == 0 && s.Problem == ""
			})
		}
	}
	m.await("j0", "saved as it is", func(control.Status) bool {
		for p, want := range last {
			if m.read("j0/cfg/"+p) != want {
				return false
			}
		}
		return true
	})
}

// Where descriptors are short in the middle of a crowd, all of them are let go, and the target is scanned.
func TestVnodesOutOfDescriptors(t *testing.T) {
	t.Parallel()
	m, _ := vnodeMachine(t, 1, func(q *notifyQueue) { q.fail.Store(60) })
	for _, tg := range m.model.Targets {
		tg.Rescan = 50 * ms
	}
	m.run()
	for i := range 100 {
		m.write(fmt.Sprintf("j0/etc/many/f%d", i), "x")
	}
	s := m.await("j0", "saved by scanning", func(s control.Status) bool {
		return s.Local == 100 && s.Unsaved == 0 && strings.HasPrefix(s.Watch, "scan")
	})
	if open := below(t, m.path("j0/etc")); len(open) > 0 || s.Problem != "" {
		t.Errorf("open: %d, problem %q", len(open), s.Problem)
	}
	m.must(os.WriteFile(m.path("j0/etc/many/f0"), []byte("later"), 0o644))
	m.await("j0", "saved by scanning again", func(control.Status) bool {
		return m.read("j0/cfg/many/f0") == "later"
	})
}
