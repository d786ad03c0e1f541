// Package jsonlog writes and reads container logs in the format of Docker's
// json-file driver: one JSON object a line, {"log":…,"stream":…,"time":…}, in one
// file or in several that take turns.
//
// It knows files and lines; who writes when, and who may read, are others'
// concern.
package jsonlog

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"
)

// The names of the streams.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// entry is one line of the file.
type entry struct {
	Log    string            `json:"log"`
	Stream string            `json:"stream"`
	Attrs  map[string]string `json:"attrs"`
	Time   time.Time         `json:"time"`
}

func parse(line []byte) (entry, error) {
	var e entry
	err := json.Unmarshal(line, &e)
	return e, err
}

// timeOf finds an entry's time without reading the whole of it.
func timeOf(line []byte) (time.Time, bool) {
	key := []byte(`"time":"`) // in the text of an entry the quotes have backslashes
	at := bytes.LastIndex(line, key)
	if at < 0 {
		return time.Time{}, false
	}
	text, _, found := bytes.Cut(line[at+len(key):], []byte{'"'})
	t, err := time.Parse(time.RFC3339Nano, string(text))
	return t, found && err == nil
}

// appendEntry appends an entry and its newline to dst. What is not UTF-8 becomes
// U+FFFD, for JSON has no other bytes. attrs are its attributes, if any, as they
// are written, with a comma.
func appendEntry(dst []byte, stream string, t time.Time, attrs, log []byte) []byte {
	dst = append(dst, `{"log":"`...)
	dst = appendEscaped(dst, log)
	dst = append(dst, `","stream":"`...)
	dst = append(dst, stream...)
	dst = append(dst, `",`...)
	dst = append(dst, attrs...)
	dst = append(dst, `"time":"`...)
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, "\"}\n"...)
}

const hexDigits = "0123456789abcdef"

func appendEscaped(dst, s []byte) []byte {
	from := 0 // of what needs no escape and is not copied yet
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRune(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			if c < ' ' {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			} else {
				dst = append(dst, `\ufffd`...)
			}
		}
		i += size
		from = i
	}
	return append(dst, s[from:]...)
}
