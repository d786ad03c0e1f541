package filter

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

type kind int

const (
	ended kind = iota
	word
	number
	// address is of IPv6; dotted are up to four numbers, of IPv4; mac is of Ethernet.
	address
	dotted
	mac
	sign
)

type token struct {
	kind kind
	text string
	n    uint32
	// quoted: a name, though it is a keyword's.
	quoted bool
}

// maxText is how long an expression may be.
const maxText = 16 << 10

// maxAddress is the length of the longest address, of IPv6 with its end as in IPv4.
const maxAddress = 45

var signs = []string{"&&", "||", "<<", ">>", "<=", ">=", "!=", "==", "(", ")", "[", "]", "!", "=", "<", ">", "+", "-", "*", "/", "%", "&", "|", "^", ":"}

func scan(text string) ([]token, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("it is longer than %d characters", maxText)
	}
	var out []token
	for text = strings.TrimLeft(text, " \t\r\n"); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		t, length := first(text)
		if length == 0 {
			return nil, fmt.Errorf("%q is not understood", text[:1])
		}
		out, text = append(out, t), text[length:]
	}
	return out, nil
}

// first is the token that a text begins with, and its length.
func first(text string) (token, int) {
	if length := span(text, func(c byte) bool { return isHex(c) || c == ':' || c == '.' }); strings.Contains(text[:length], ":") {
		for part := text[:min(length, maxAddress)]; part != ""; part = part[:len(part)-1] {
			if a, err := netip.ParseAddr(part); err == nil && a.Is6() {
				return token{kind: address, text: part}, len(part)
			}
			if m, err := net.ParseMAC(part); err == nil && len(m) == 6 {
				return token{kind: mac, text: part}, len(part)
			}
		}
	}
	if text[0] == '\\' {
		length := span(text[1:], isName)
		return token{kind: word, text: text[1 : 1+length], quoted: true}, length + min(length, 1)
	}
	length := span(text, isName)
	if name := strings.TrimRight(text[:length], "-_"); name != "" && text[0] != '-' && text[0] != '_' && text[0] != '.' {
		return classify(name), len(name)
	}
	for _, s := range signs {
		if strings.HasPrefix(text, s) {
			return token{kind: sign, text: s}, len(s)
		}
	}
	return token{}, 0
}

func classify(name string) token {
	if n, err := strconv.ParseUint(name, 0, 32); err == nil && !strings.Contains(name, "_") {
		return token{kind: number, text: name, n: uint32(n)}
	}
	if strings.Contains(name, ".") && strings.Trim(name, "0123456789.") == "" {
		return token{kind: dotted, text: name}
	}
	return token{kind: word, text: name}
}

func span(text string, in func(byte) bool) int {
	for i := range len(text) {
		if !in(text[i]) {
			return i
		}
	}
	return len(text)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isName(c byte) bool {
	return isHex(c) || c >= 'g' && c <= 'z' || c >= 'G' && c <= 'Z' || c == '-' || c == '_' || c == '.'
}
