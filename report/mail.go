package report

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"cfgd/internal/run"
)

// Message returns a mail with a report for sendmail(8) with -t. No name or path in it can add a header.
func Message(to, host string, now time.Time, all []Finding, text string) ([]byte, error) {
	addr, err := mail.ParseAddress(to)
	if err != nil {
		return nil, fmt.Errorf("%q is no mail address: %w", to, err)
	}
	subject := "cfgd on " + host + ": all is well"
	if len(all) > 0 {
		worst := all[0]
		for _, x := range all {
			if x.Severity == Problem && worst.Severity != Problem {
				worst = x
			}
		}
		subject = fmt.Sprintf("cfgd on %s: %s: %s", host, counted(len(all), "finding"),
			strings.TrimSpace(worst.Target+" "+worst.Kind))
	}
	subject = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, subject)
	var b bytes.Buffer
	encoding := "7bit" // mail(1) shows this unchanged
	if !plain(text) {
		encoding = "quoted-printable"
	}
	fmt.Fprintf(&b, "To: %s\nSubject: %s\nDate: %s\nAuto-Submitted: auto-generated\nMIME-Version: "+
		"1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: %s\n\n",
		addr, mime.QEncoding.Encode("utf-8", subject), now.Format(time.RFC1123Z), encoding)
	if plain(text) {
		b.WriteString(text)
		return b.Bytes(), nil
	}
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	// sendmail(8) takes lines that end as those of the system do
	return bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n")), nil
}

// plain reports whether every mail system passes a text on unchanged: RFC 5322, section 2.1.1.
func plain(text string) bool {
	for line := range strings.Lines(text) {
		if len(line) > 990 {
			return false
		}
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') })
}

// Send gives a message to sendmail(8).
func Send(ctx context.Context, r run.Runner, message []byte) error {
	c := run.Command("sendmail", "-oi", "-t")
	c.Stdin, c.From = message, "the report"
	_, err := r.Run(ctx, c)
	return err
}
