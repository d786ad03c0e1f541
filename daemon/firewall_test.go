package daemon

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/network"
)

func TestFirewallFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args    []string
		kind    network.FirewallKind
		noIPv6  bool
		open    bool
		refused string
	}{
		{args: nil, kind: network.FirewallNFTables},
		{args: []string{"--firewall-backend=iptables"}, kind: network.FirewallIPTables},
		{args: []string{"--firewall-backend=iptables", "--iptables=false"}, kind: network.FirewallNone},
		{args: []string{"--iptables=false"}, kind: network.FirewallNone},
		{args: []string{"--ip6tables=false", "--ip-forward-no-drop"}, kind: network.FirewallNFTables, noIPv6: true, open: true},
		{args: []string{"--firewall-backend=pf"}, refused: `--firewall-backend "pf"`},
		{args: []string{"--firewall-backend="}, refused: `--firewall-backend ""`},
	} {
		cfg := defaults()
		flags := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
		cfg.register(flags)
		if err := flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		got, err := cfg.network()
		switch {
		case c.refused != "":
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%q: error %v, want %s in it", c.args, err, c.refused)
			}
		case err != nil:
			t.Errorf("%q: %v", c.args, err)
		case got.Firewall != c.kind || got.NoIPv6Firewall != c.noIPv6 || got.ForwardOpen != c.open:
			t.Errorf("%q: back end %s, no IPv6 %v, open %v", c.args, got.Firewall, got.NoIPv6Firewall, got.ForwardOpen)
		}
	}
}
