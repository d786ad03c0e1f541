package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhyHostileNames: what a container calls its links and tables of rules is neither
// obeyed by the terminal of who asks why, nor by the shell that a cure is given to.
func TestWhyHostileNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.idle("--name", "adm", "--cap-add", "NET_ADMIN")
	dir := t.TempDir()
	rules := `{"nftables":[
{"add":{"table":{"family":"inet","name":"x;touch${IFS}PWNED;#'"}}},
{"add":{"chain":{"family":"inet","table":"x;touch${IFS}PWNED;#'","name":"o\u001b[31m\nmend: forged","type":"filter","hook":"output","prio":0,"policy":"accept"}}},
{"add":{"rule":{"family":"inet","table":"x;touch${IFS}PWNED;#'","chain":"o\u001b[31m\nmend: forged","expr":[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"drop":null}]}}}]}`
	if err := os.WriteFile(filepath.Join(dir, "rules"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Run("nft", "-j", "-f", filepath.Join(dir, "rules"))
	harmless := func(what, said string) {
		t.Helper()
		if strings.ContainsAny(said, "\x1b\a\r") || strings.Contains(said, "\nmend: forged") {
			t.Errorf("%s: the container's names reach the terminal:\n%q", what, said)
		}
	}
	said, _, code := s.CLI("why", "adm", outside4+":80")
	harmless("why", said)
	if code != 1 || !strings.Contains(said, "x%3Btouch") {
		t.Errorf("why: exit status %d; want 1 and the table's name:\n%s", code, said)
	}
	said, _, _ = s.CLI("capture", "--path", "adm", outside4+":80")
	harmless("capture --path", said)
	mends, _, _ := s.CLI("why", "-f", "{{range .causes}}{{range .mend}}{{println .}}{{end}}{{end}}", "adm", outside4+":80")
	if !strings.Contains(mends, "nft ") {
		t.Errorf("no cure is told: %q", mends)
	}
	for mend := range strings.Lines(mends) {
		_ = s.host.Try("sh", "-c", "cd "+dir+" && "+mend)
	}
	if _, err := os.Stat(filepath.Join(dir, "PWNED")); err == nil {
		t.Errorf("a cure does what the container says: %s", mends)
	}

	a.Run("nft", "flush", "ruleset")
	a.Run("ip", "link", "set", "eth0", "down")
	a.Run("ip", "link", "set", "eth0", "name", "\x1b[31m$(id)\a")
	for _, args := range [][]string{{"why", "adm", outside4 + ":80"}, {"capture", "-i", "nosuch", "adm"}, {"capture", "--path", "adm", "172.17.0.1"}, {"topology"}, {"doctor"}} {
		said, wrong, _ := s.CLI(args...)
		harmless(strings.Join(args, " "), said+wrong)
	}
}
