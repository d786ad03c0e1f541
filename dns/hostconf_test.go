package dns

import (
	"strings"
	"testing"
)

func TestHostServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ conf, uplinks, want string }{
		{"nameserver 10.0.0.1 # one\nnameserver fe80::1%eth0\nnameserver x\n;nameserver 9.9.9.9\n", "", "10.0.0.1:53 [fe80::1%eth0]:53"},
		{"nameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n", "", "127.0.0.1:53 10.0.0.1:53 10.0.0.2:53"},
		{"nameserver 127.0.0.53\noptions edns0\n", "nameserver 10.0.0.8\n", "127.0.0.53:53 10.0.0.8:53"},
		{"nameserver 10.0.0.1\n", "nameserver 10.0.0.8\n", "10.0.0.1:53"},
		{"", "nameserver 10.0.0.8\n", ""},
	} {
		var got []string
		for _, s := range HostServers([]byte(c.conf), []byte(c.uplinks)) {
			got = append(got, s.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q gives %v, want %s", c.conf, got, c.want)
		}
	}
}
