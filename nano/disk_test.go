package nano

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/run"
)

type answers map[string]string

func (a answers) Run(_ context.Context, c run.Cmd) (string, error) {
	out, ok := a[c.String()]
	if !ok {
		return "", errors.New("not found")
	}
	return out, nil
}

// A device's size is what diskinfo(8) prints, on one line with tabs. A disk with sectors of 4 KiB is refused
// before anything is read.
func TestSizeOfADevice(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]string{
		"ada0\t512\t8012390400\t15649200\t0\t0\t15525\t16\t63\n": "",
		"ada0\t4096\t8012390400\t1956150\t4096\t0\n":             "sectors of 4096 bytes",
		"ada0\t512\tmany\n": "many",
		"\n":                "diskinfo ada0 says",
	} {
		m := &Disk{Nano: config.Nano{Drive: "ada0"}, File: os.DevNull, Run: answers{"diskinfo ada0": says}}
		f, size, err := m.open(t.Context(), os.O_RDONLY)
		switch {
		case want == "" && (err != nil || size != 8012390400):
			t.Errorf("%q: %d, %v", says, size, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v", says, err)
		}
		if err == nil {
			f.Close()
		}
	}
	m := &Disk{File: os.DevNull, Run: answers{}}
	if _, _, err := m.open(t.Context(), os.O_RDONLY); err == nil {
		t.Error("without diskinfo")
	}
}
