package merge

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// maxAccountLine is the longest line in bytes: LINE_MAX, less the line end and NUL that pwd_mkdb adds.
const maxAccountLine = 2046

// Passwd makes passwd(5) from master.passwd(5), byte for byte as pwd_mkdb -p does: without passwords, class
// and times, and with numbers as pwd_mkdb reads them. Comments and blank lines stay. NIS lines are entries
// that need no numbers. What pwd_mkdb refuses is an error that names the line without its text (pwd_mkdb.c,
// pw_scan.c). A NUL is ErrBinary.
func Passwd(master []byte) ([]byte, error) {
	if bytes.IndexByte(master, 0) >= 0 {
		return nil, fmt.Errorf("master.passwd: %w", ErrBinary)
	}
	var out bytes.Buffer
	n := 0
	for l := range strings.Lines(string(master)) {
		n++
		line, err := passwdLine(strings.TrimSuffix(l, "\n"))
		if err != nil {
			return nil, fmt.Errorf("master.passwd:%d: %w", n, err)
		}
		out.WriteString(line + "\n")
	}
	return out.Bytes(), nil
}

func passwdLine(line string) (string, error) {
	f, want := strings.Split(line, ":"), len(accountForms["master.passwd"].fields)
	switch {
	case len(line) > maxAccountLine:
		return "", fmt.Errorf("longer than %d bytes", maxAccountLine)
	case isRemark(line):
		return line, nil
	case len(f) != want:
		return "", fmt.Errorf("%d fields where there ought to be %d", len(f), want)
	}
	for i, what := range []string{2: "uid", 3: "gid"} {
		if what == "" || f[i] == "" && isNIS(line) {
			continue
		}
		var err error
		if f[i], err = accountNumber(f[i]); err != nil {
			return "", fmt.Errorf("%s: %w", what, err)
		}
	}
	if f[0] == "root" && f[2] != "0" {
		return "", errors.New("the uid of root is not 0")
	}
	return strings.Join([]string{f[0], "*", f[2], f[3], f[7], f[8], f[9]}, ":"), nil
}
