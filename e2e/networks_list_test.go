package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestNetworkListing: ls with all its filters and forms, and inspect of several.
func TestNetworkListing(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		red := c.must("network", "create", "--label", "tier=front", "--label", "keep", "red")
		blue := c.must("network", "create", "--internal", "--ipv6", "--attachable", "--label", "tier=back", "blue")
		s.idle("--name", "web", "--network", "red")
		s.idle("--name", "plain")
		for filter, want := range map[string]string{
			"name=re": "red", "name=e": "blue bridge none red", "name=^red$": "red", "name=^re$": "", "id=" + red[:8]: "red", "driver=bridge": "blue bridge red", "driver=host": "host",
			"driver=null": "none", "label=keep": "red", "label=tier": "blue red", "label=tier=back": "blue", "scope=local": "blue bridge host none red",
			"scope=swarm": "", "type=custom": "blue red", "type=builtin": "bridge host none", "dangling=true": "blue", "dangling=false": "bridge host none red",
		} {
			got := strings.Fields(c.must("network", "ls", "--format", "{{.Name}}", "-f", filter))
			slices.Sort(got)
			if strings.Join(got, " ") != want {
				t.Errorf("ls -f %s: %v, want %s", filter, got, want)
			}
		}
		if got := c.must("network", "ls", "-q", "-f", "label=tier", "-f", "type=custom", "-f", "name=blue"); got != blue[:12] {
			t.Errorf("ls -q: %s", got)
		}
		if got := c.must("network", "ls", "-q", "--no-trunc", "-f", "name=red"); got != red {
			t.Errorf("ls -q --no-trunc: %s", got)
		}
		if got := c.must("network", "ls", "-f", "name=blue", "--format", `{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}} {{.Label "tier"}}`); got != "blue bridge local true true back" {
			t.Errorf("ls --format: %s", got)
		}
		contains(t, "ls --format json", c.must("network", "ls", "-f", "name=blue", "--format", "json"), `"Name":"blue"`, `"Internal":"true"`)
		contains(t, "ls", c.must("network", "ls"), "NETWORK ID", red[:12], "red ", "bridge", "local")
		for _, filter := range []string{"colour=red", "dangling=perhaps", "type=special", "name=re["} {
			c.refused(t, strings.Split(filter, "=")[0], "network", "ls", "-f", filter)
		}
		if got := c.must("network", "inspect", "-f", "{{.Name}} {{.Internal}} {{.Attachable}} {{len .Containers}}", "red", blue[:12]); got != "red false false 1\nblue true true 0" {
			t.Errorf("inspect of two: %q", got)
		}
		c.must("network", "inspect", "--verbose", "red")
		r := c.try("network", "inspect", "red", "nosuch")
		if r.Code == 0 || !strings.Contains(r.Stdout, red) || !strings.Contains(r.Stderr, "network nosuch not found") {
			t.Errorf("inspect of one that is not there: %+v", r)
		}
	})
}

// TestNetworkUsage: inspect tells how many addresses are in use and left, to clients
// of API 1.52 and later.
func TestNetworkUsage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--subnet", "10.30.0.0/24", "--aux-address", "router=10.30.0.9", "--subnet", "10.31.0.0/24", "--ip-range", "10.31.0.128/30",
		"--ipv6", "--subnet", "fd00:30::/64", "red")
	usage := func() string { return s.Must("network", "inspect", "-f", "{{json .Status.IPAM.Subnets}}", "red") }
	const second = `"10.31.0.0/24":{"DynamicIPsAvailable":4,"IPsInUse":3}`
	contains(t, "usage", usage(), `"10.30.0.0/24":{"DynamicIPsAvailable":252,"IPsInUse":4}`, second)
	s.idle("--network", "red")
	contains(t, "usage with a container", usage(), `"10.30.0.0/24":{"DynamicIPsAvailable":251,"IPsInUse":5}`, second)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.Socket)
	}}}
	defer client.CloseIdleConnections()
	for version, has := range map[string]bool{"v1.51": false, "v1.52": true} {
		resp, err := client.Get("http://host/" + version + "/networks/red")
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		err = json.NewDecoder(resp.Body).Decode(&got)
		_ = resp.Body.Close()
		if _, there := got["Status"]; err != nil || there != has {
			t.Errorf("%s: Status there: %t, %v", version, there, err)
		}
	}
}

// TestNetworkRemoval: rm takes several, and prune what nobody is on.
func TestNetworkRemoval(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			c.must("network", "create", "--label", name, name)
		}
		s.idle("--name", "web", "--network", "e")
		s.Must("create", "--name", "later", "--network", "d", "demo", "true")
		r := c.try("network", "rm", "a", "nosuch", "e", "bridge", "b")
		if r.Stdout != "a\nb\n" || r.Code == 0 {
			t.Errorf("rm of several: %+v", r)
		}
		contains(t, "rm", r.Stderr, "network nosuch not found", "has active endpoints", "bridge is a pre-defined network and cannot be removed")
		if r := c.try("network", "rm", "-f", "nosuch"); r.Code != 0 {
			t.Errorf("rm -f of one that is not there: %+v", r)
		}
		if got := c.must("network", "prune", "-f", "--filter", "until=1h"); strings.Contains(got, "Deleted") {
			t.Errorf("prune of what is older than an hour: %s", got)
		}
		if got := c.must("network", "prune", "-f", "--filter", "label!=c", "--filter", "until="+time.Now().Add(time.Hour).Format(time.RFC3339)); got != "Deleted Networks:\nd\n" {
			t.Errorf("prune: %q", got)
		}
		c.refused(t, "colour", "network", "prune", "-f", "--filter", "colour=red")
		if got := c.must("network", "prune", "-f"); got != "Deleted Networks:\nc\n" {
			t.Errorf("prune: %q", got)
		}
		c.refused(t, "network d not found", "start", "later")
		if got := c.must("network", "ls", "-q", "-f", "type=custom", "--format", "{{.Name}}"); got != "e" {
			t.Errorf("left: %s", got)
		}
		s.consistent()
	})
}

// TestNetworkCreateRefused: what a network cannot be, or is not here, is refused by
// its name.
func TestNetworkCreateRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := client{"docker", s.mustDocker, func(args ...string) lab.Result { return s.docker(nil, args...) }}
	c.must("network", "create", "red")
	for args, says := range map[string]string{
		"red":                    "network with name red already exists",
		"host":                   "operation is not permitted on predefined host network",
		"bridge":                 "bridge",
		"-d overlay x":           "overlay",
		"--ingress x":            "Ingress is not supported: it is for the services of a swarm",
		"--scope swarm x":        "Scope is not supported: it is for the services of a swarm",
		"--config-only x":        "ConfigOnly is not supported: it is for the services of a swarm",
		"--config-from red x":    "ConfigFrom is not supported: it is for the services of a swarm",
		"--ipam-driver mine x":   `IPAM driver "mine"`,
		"--ipam-opt a=b x":       "IPAM options",
		"-o speed=9 x":           "speed",
		"--ipv4=false x":         "IPv",
		"--subnet 10.9.0.0/99 x": "10.9.0.0/99",
		"--subnet 10.9.0.0/24 --gateway 10.8.0.1 x":                      "10.8.0.1",
		"--subnet 10.9.0.0/24 --ip-range 10.8.0.0/25 x":                  "10.8.0.0/25",
		"--subnet 10.9.0.0/24 --aux-address a=10.8.0.9 x":                "10.8.0.9",
		"--subnet 10.9.0.0/24 --subnet 10.9.0.0/25 x":                    "overlap",
		"-o com.docker.network.bridge.enable_icc=perhaps x":              "enable_icc",
		"-o com.docker.network.bridge.gateway_mode_ipv4=isolated x":      "isolated",
		"-o com.docker.network.bridge.name=an-interface-name-too-long x": "an-interface-name-too-long",
	} {
		c.refused(t, says, append([]string{"network", "create"}, words(args)...)...)
	}
	if got := c.must("network", "ls", "-f", "type=custom", "--format", "{{.Name}}"); got != "red" {
		t.Errorf("refusals left networks: %s", got)
	}
	s.consistent()
}
