package topology_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/topology"
)

var update = flag.Bool("update", false, "write testdata anew")

// sample has everything that is drawn in a way of its own.
var sample = topology.Host{
	Name: "ship",
	Uplinks: []topology.Uplink{
		{Name: "eth0", Addresses: []string{"192.0.2.1/24", "2001:db8::1/64"}, MTU: 1500, Up: true, Default: true},
		{Name: "wg0", Kind: "wireguard", Addresses: []string{"10.99.0.1/24"}, MTU: 1420},
	},
	Networks: []topology.Network{
		{
			ID: "aa11", Name: "bridge", Bridge: "fairlead0", Up: true, ICC: true, MTU: 1500,
			Subnets: []topology.Subnet{{Prefix: "172.17.0.0/16", Gateway: "172.17.0.1", Mode: "nat"}},
			Endpoints: []topology.Endpoint{
				{Container: "db", ID: "d", Interface: "eth0", HostInterface: "veth22", Addresses: []string{"172.17.0.3/16"}},
				{
					Container: "web", ID: "w", SharedBy: []string{"log <&>"}, Interface: "eth0", HostInterface: "veth11", Up: true, Default: true,
					Addresses: []string{"172.17.0.2/16"}, Ports: []string{"0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"},
				},
			},
		},
		{
			ID: "bb22", Name: "back", Bridge: "br0", Foreign: true, Up: true, Internal: true,
			Subnets: []topology.Subnet{{Prefix: "10.30.0.0/24", Mode: "nat"}, {Prefix: "fd00:30::/64", Gateway: "fd00:30::1", Mode: "routed"}},
			Endpoints: []topology.Endpoint{
				{Container: "web", ID: "w", SharedBy: []string{"log <&>"}, Interface: "eth1", HostInterface: "veth33", Up: true, Addresses: []string{"10.30.0.2/24", "fd00:30::2/64"}},
			},
		},
		{ID: "cc33", Name: "empty", Bridge: "br-cc33", ICC: true, Subnets: []topology.Subnet{{Prefix: "10.40.0.0/24", Gateway: "10.40.0.1", Mode: "nat"}}},
	},
	OnHost: []string{"dns"}, Apart: []string{`job "x"`},
}

// TestGolden compares every form of the picture with the files of testdata.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(topology.Host, io.Writer) error{
		"sample.txt": topology.Host.WriteText, "sample.dot": topology.Host.WriteDOT,
		"sample.mmd": topology.Host.WriteMermaid, "sample.svg": topology.Host.WriteSVG,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := write(sample, &out); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("another than %s (go test ./topology -update):\n%s", path, diff)
			}
		})
	}
}

// TestSVGIsXML: the drawing is well-formed, and every line of the tree's facts is in it.
func TestSVGIsXML(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sample.WriteSVG(&out); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for d := xml.NewDecoder(&out); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := token.(xml.CharData); ok {
			text.Write(data)
		}
	}
	for _, fact := range []string{"eth0 192.0.2.1/24", "fairlead0", "log <&>", "veth33 ── eth1", "0.0.0.0:8080->80/tcp", `job "x"`, "DOWN"} {
		if !strings.Contains(text.String(), fact) {
			t.Errorf("the drawing has no %q", fact)
		}
	}
}

// TestOnly: one network is found by its name, its ID, or the start of that.
func TestOnly(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{"back": "back", "aa11": "bridge", "cc": "empty", "none": "", "": ""} {
		h, found := sample.Only(ref)
		if found != (want != "") || found && (len(h.Networks) != 1 || h.Networks[0].Name != want) {
			t.Errorf("%q: got %v %v, want %q", ref, found, h.Networks, want)
		}
	}
	if len(sample.Networks) != 3 || len(sample.OnHost) != 1 {
		t.Error("the picture was changed")
	}
}
