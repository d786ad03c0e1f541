// Package printable makes what somebody else chose, such as the name of a link or of a
// table of rules inside a container, fit to be shown to a person and to be part of a
// command that a person may run.
package printable

import (
	"fmt"
	"strings"
	"unicode"
)

// plain are the characters of names that mean nothing to a shell, to nft(8) or to a
// terminal. The percent sign is not one, for Name's own sake.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:@+"

// Name is the name as it is if it is of plain characters alone, as almost all are; every
// other byte becomes a percent sign and two hexadecimal digits. No two names become the
// same. The kernel takes any byte but a few in names of links, tables, chains and sets.
func Name(s string) string {
	if strings.Trim(s, plain) == "" {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Text is the text with every character that a terminal may act upon, or that ends a
// line, written as an escape sequence of Go's; a program's own name may have any.
func Text(s string) string {
	if !strings.ContainsFunc(s, control) {
		return s
	}
	return escape(s, control)
}

// Lines is Text that lets lines end.
func Lines(s string) string {
	return escape(s, func(r rune) bool { return r != '\n' && r != '\t' && control(r) })
}

func control(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }

func escape(s string, is func(rune) bool) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case !is(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
