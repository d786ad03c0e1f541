package files

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/dns"
)

// Whatever the host's resolv.conf has, a container's has lines of three kinds, servers
// that mean something there, and our domain before others that are searched.
func FuzzResolvConf(f *testing.F) {
	for _, conf := range []string{
		"nameserver 10.0.0.1\nnameserver fd00::53\nsearch corp lan\noptions ndots:2\n", "nameserver 127.0.0.53\n",
		"nameserver fe80::1%eth0\ndomain x\noptions ndots:x ndots:0\n", "nameserver ::ffff:127.0.0.1\r\nsearch a\x00b\n",
	} {
		f.Add([]byte(conf), []byte("nameserver 192.0.2.1\n"), true)
	}
	f.Fuzz(func(t *testing.T, conf, uplinks []byte, ipv6 bool) {
		text := ResolvConf(conf, uplinks, Resolver{}, ipv6)
		checkLines(t, text)
		c := dns.ParseHostConfig(text)
		if len(c.Servers) == 0 || slices.ContainsFunc(c.Servers, func(a netip.Addr) bool { return a.Unmap().IsLoopback() || (a.Is6() && !ipv6) }) {
			t.Errorf("of %q the servers are %v", conf, c.Servers)
		}
		text = OwnResolvConf(conf, Resolver{})
		checkLines(t, text)
		c = dns.ParseHostConfig(text)
		if len(c.Servers) != 1 || c.Servers[0] != dns.Address.Addr() {
			t.Errorf("of %q the servers are %v", conf, c.Servers)
		}
		if ndots(c.Options) && (len(c.Search) == 0 || c.Search[0] != dns.Domain) {
			t.Errorf("of %q with options %q there is searched %q", conf, c.Options, c.Search)
		}
	})
}

// checkLines fails the test unless each line is one of those that are written.
func checkLines(t *testing.T, text []byte) {
	t.Helper()
	for line := range bytes.Lines(text) {
		if word, _, _ := bytes.Cut(line, []byte(" ")); !slices.Contains([]string{"nameserver", "search", "options"}, string(word)) {
			t.Errorf("a line %q", line)
		}
	}
}

// What a hosts file is given adds the lines it says and no other, and takes away none
// that somebody else wrote.
func FuzzHosts(f *testing.F) {
	f.Add("db:10.0.0.1", []byte("127.0.0.1\tlocalhost\nmine\n"), []byte("127.0.0.1\tlocalhost\n"))
	f.Add("db:[fd00::1]", []byte("a\nb"), []byte("b\nc\n"))
	f.Add("a\n1.1.1.1 x:1.1.1.1", []byte{}, []byte("\n\n"))
	f.Fuzz(func(t *testing.T, extra string, now, last []byte) {
		entries, err := ParseExtraHost(extra, nil)
		if err != nil {
			entries = nil
		}
		next := AppendHosts(last, entries)
		added := bytes.TrimPrefix(next, last)
		if n := bytes.Count(bytes.TrimPrefix(added, []byte("\n")), []byte("\n")); len(last) > 0 && last[len(last)-1] == '\n' && n != len(entries) {
			t.Errorf("%q adds %q", extra, added)
		}
		for _, e := range entries {
			if fields := strings.Fields(string(added)); len(fields) != 2 || fields[1] != e.Names[0] || fields[0] != e.Addr.String() {
				t.Errorf("%q adds %q", extra, added)
			}
		}
		merged, kept, wanted := lineSet(Merge(now, last, next)), lineSet(last), lineSet(next)
		for line := range lineSet(now) {
			if !merged[line] && (!kept[line] || wanted[line]) {
				t.Errorf("of %q, with %q in the place of %q, %q is lost", now, next, last, line)
			}
		}
	})
}
