package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// contradictions refuses settings of which one leaves another with nothing to do:
// whoever gave both expects something that will not happen.
func (c *Config) contradictions() error {
	d := c.front.defaults()
	for _, rule := range []struct {
		when     bool
		without  string // what is said of when
		settings []setting
	}{
		{c.Bridge == "none", "--bridge none leaves the default network out", []setting{
			{"bip", c.BIP != ""},
			{"bip6", c.BIP6 != ""},
			{"fixed-cidr", c.FixedCIDR != ""},
			{"fixed-cidr-v6", c.FixedCIDR6 != ""},
			{"default-gateway", c.DefaultGateway != ""},
			{"default-gateway-v6", c.DefaultGateway6 != ""},
			{"ipv6", c.IPv6},
			{"icc=false", !c.ICC},
			{"ip-masq=false", !c.IPMasq},
			{"mtu", c.MTU != d.MTU && c.MTU != 0},
		}},
		{!c.IPTables, "--iptables=false makes no rule", []setting{
			{"icc=false", !c.ICC},
			{"allow-direct-routing", c.DirectRouting},
			{"bridge-accept-fwmark", c.AcceptFWMark != ""},
		}},
		{!c.IPForward, "--ip-forward=false turns no forwarding on", []setting{
			{"ip-forward-no-drop", c.ForwardNoDrop},
		}},
	} {
		for _, s := range rule.settings {
			if rule.when && s.given {
				return fmt.Errorf("%s, so --%s would do nothing: leave one of them out", rule.without, s.flag)
			}
		}
	}
	return nil
}

// setting is a flag, and whether it was given another value than it has by itself.
type setting struct {
	flag  string
	given bool
}

// repeatedKey returns a key that a JSON object has twice, of which a reader would
// take the last and nobody would know.
func repeatedKey(object []byte) (string, bool) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil {
		return "", false
	}
	seen := make(map[string]bool)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return "", false
		}
		name, _ := key.(string)
		if seen[name] {
			return name, true
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return "", false
		}
	}
	return "", false
}
