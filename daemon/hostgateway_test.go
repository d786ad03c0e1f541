package daemon

import (
	"fmt"
	"strings"
	"testing"
)

func TestHostGateways(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		given       []string
		old         string
		want, fails string
	}{
		{nil, "", "[]", ""},
		{[]string{"192.0.2.1"}, "", "[192.0.2.1]", ""},
		{[]string{"192.0.2.1", "2001:db8::1"}, "", "[192.0.2.1 2001:db8::1]", ""},
		{nil, "192.0.2.1", "[192.0.2.1]", ""},
		{[]string{"192.0.2.1", "192.0.2.2"}, "", "", "one address of each family"},
		{[]string{"gateway"}, "", "", `--host-gateway-ip "gateway"`},
		{[]string{"0.0.0.0"}, "", "", "not an address of a host"},
		{[]string{"192.0.2.1"}, "192.0.2.2", "", "mutually exclusive"},
	} {
		cfg := Config{HostGateways: c.given, HostGateway: c.old}
		got, err := cfg.hostGateways()
		switch {
		case c.fails == "" && (err != nil || fmt.Sprint(got) != c.want):
			t.Errorf("%v: %v, %v", c.given, got, err)
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%v: %v, want %q", c.given, err, c.fails)
		}
	}
}
