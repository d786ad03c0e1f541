package printable_test

import (
	"testing"

	"github.com/fairlead/fairlead/internal/printable"
)

func TestName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"eth0":                "eth0",
		"br-0a1b@if2":         "br-0a1b@if2",
		"x;touch${IFS}P;#":    "x%3Btouch%24%7BIFS%7DP%3B%23",
		"\x1b]0;p\a\n":        "%1B%5D0%3Bp%07%0A",
		"it's":                "it%27s",
		"50%":                 "50%25",
		"x%3B":                "x%253B",
		"$(reboot)":           "%24%28reboot%29",
		"ü":                   "%C3%BC",
		"a b":                 "a%20b",
		"":                    "",
		"MY_CHAIN-v4.1+x:out": "MY_CHAIN-v4.1+x:out",
	} {
		if got := printable.Name(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"tmux: server":      "tmux: server",
		"a\nmend: b":        `a\x0amend: b`,
		"\x1b[31mred\u202e": `\x1b[31mred\u202e`,
		"grün":              "grün",
	} {
		if got := printable.Text(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	if got, want := printable.Lines("a\tb\n\x1bc\r"), "a\tb\n\\x1bc\\x0d"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
