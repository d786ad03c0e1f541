package daemon

import (
	"strings"
	"testing"
)

func TestContradictionsAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file string
		args []string
		want string // "" for none
	}{
		{"", []string{"--bridge", "none"}, ""},
		{"", []string{"--bridge", "none", "--mtu", "1500"}, ""},
		{`{"bridge": "none", "bip": "10.9.0.1/24"}`, nil, "--bip would do nothing"},
		{"", []string{"-b", "none", "--fixed-cidr-v6", "fd00::/64"}, "--fixed-cidr-v6 would do nothing"},
		{"", []string{"-b", "none", "--icc=false"}, "--icc=false would do nothing"},
		{"", []string{"-b", "none", "--mtu=1400"}, "--mtu would do nothing"},
		{"", []string{"--iptables=false"}, ""},
		{"", []string{"--iptables=false", "--firewall-backend=iptables"}, ""}, // switched off, as dockerd has it
		{"", []string{"--iptables=false", "--icc=false"}, "--icc=false would do nothing"},
		{"", []string{"--iptables=false", "--allow-direct-routing"}, "--allow-direct-routing would do nothing"},
		{`{"iptables": false, "bridge-accept-fwmark": "1"}`, nil, "--bridge-accept-fwmark would do nothing"},
		{"", []string{"--ip-forward=false", "--ip-forward-no-drop"}, "--ip-forward-no-drop would do nothing"},
		{"", []string{"--ip-forward-no-drop"}, ""},
		{`{"icc": false, "mtu": 1400, "icc": true}`, nil, `key "icc" twice`},
		{"", []string{"-H", "foo"}, "--host foo: whoever reaches it is root"},
		{"", []string{"-H", "tcp://0.0.0.0:2375"}, "--tls=false serves it to anybody"},
		{"", []string{"-H", "unix://fairlead.sock"}, "want unix:// and an absolute path"},
	} {
		_, err := parse(t, tt.file, tt.args...)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %v: %v", tt.file, tt.args, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s %v: %v, want one that says %q", tt.file, tt.args, err, tt.want)
		}
	}
}
