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
	"strconv"
	"time"
	"unicode/utf16"
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
	// text is Log's bytes.
	text []byte
}

// parse reads a line; the text may be in buf, which is used again.
func parse(line []byte, buf *[]byte) (entry, error) {
	if e, ok := parseOwn(line, buf); ok {
		return e, nil
	}
	var e entry
	err := json.Unmarshal(line, &e)
	e.text = []byte(e.Log)
	return e, err
}

// parseOwn reads a line as appendEntry writes it, many times as fast as
// encoding/json does. What is written otherwise it leaves to that.
func parseOwn(line []byte, buf *[]byte) (e entry, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return e, false
	}
	out := (*buf)[:0]
	for {
		i := bytes.IndexAny(rest, `"\\`)
		if i < 0 {
			return e, false
		}
		out = append(out, rest[:i]...)
		if rest[i] == '"' {
			rest = rest[i:]
			break
		}
		if rest = rest[i+1:]; len(rest) == 0 {
			return e, false
		}
		if c, known := unescaped[rest[0]]; known {
			out, rest = append(out, c), rest[1:]
			continue
		}
		if rest[0] != 'u' || len(rest) < 5 {
			return e, false
		}
		r, err := strconv.ParseUint(string(rest[1:5]), 16, 16)
		if err != nil || utf16.IsSurrogate(rune(r)) {
			return e, false
		}
		out, rest = utf8.AppendRune(out, rune(r)), rest[5:]
	}
	*buf, e.text = out, out
	if rest, ok = bytes.CutPrefix(rest, []byte(`","stream":"stdout","time":"`)); ok {
		e.Stream = Stdout
	} else if rest, ok = bytes.CutPrefix(rest, []byte(`","stream":"stderr","time":"`)); ok {
		e.Stream = Stderr
	} else {
		return e, false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte(`"}`)); !ok {
		return e, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(rest))
	e.Time = t
	return e, err == nil
}

// unescaped are the characters that appendEscaped gives a backslash, but for those
// it writes by their numbers.
var unescaped = map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\'}

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
