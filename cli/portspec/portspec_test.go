package portspec_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/cli/portspec"
)

// flat writes bindings as sorted lines, container=hostip:hostport.
func flat(m network.PortMap) []string {
	var out []string
	for port, bindings := range m {
		for _, b := range bindings {
			ip := ""
			if b.HostIP.IsValid() {
				ip = b.HostIP.String()
			}
			out = append(out, fmt.Sprintf("%s=%s|%s", port, ip, b.HostPort))
		}
	}
	slices.Sort(out)
	return out
}

func TestPublish(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want []string
	}{
		{"80", []string{"80/tcp=|"}},
		{"80/udp", []string{"80/udp=|"}},
		{"80/UDP", []string{"80/udp=|"}},
		{"8080:80", []string{"80/tcp=|8080"}},
		{":80", []string{"80/tcp=|"}},
		{"127.0.0.1:8080:80", []string{"80/tcp=127.0.0.1|8080"}},
		{"127.0.0.1::80", []string{"80/tcp=127.0.0.1|"}},
		{"[::1]:8080:80", []string{"80/tcp=::1|8080"}},
		{"[::1]::80/udp", []string{"80/udp=::1|"}},
		{"::1:8080:80", []string{"80/tcp=::1|8080"}},
		{"[2001:db8::1]:53:53/udp", []string{"53/udp=2001:db8::1|53"}},
		{"8000-8002:80", []string{"80/tcp=|8000-8002"}},
		{"8000-8001:80-81", []string{"80/tcp=|8000", "81/tcp=|8001"}},
		{"80-81", []string{"80/tcp=|", "81/tcp=|"}},
		{"127.0.0.1::80-81/udp", []string{"80/udp=127.0.0.1|", "81/udp=127.0.0.1|"}},
		{"65535:65535", []string{"65535/tcp=|65535"}},
		{"65534-65535:65534-65535", []string{"65534/tcp=|65534", "65535/tcp=|65535"}},
		{"target=80,published=8080", []string{"80/tcp=|8080"}},
		{"target=53,published=53,protocol=udp,host_ip=[::1]", []string{"53/udp=::1|53"}},
		{"target=80", []string{"80/tcp=|"}},
		{"target=80,published=0", []string{"80/tcp=|"}},
		{"0:80", []string{"80/tcp=|"}},
		{"127.0.0.1:0:80/sctp", []string{"80/sctp=127.0.0.1|"}},
		{"0.0.0.0:8080:80", []string{"80/tcp=0.0.0.0|8080"}},
		{"[::]:8080:80", []string{"80/tcp=::|8080"}},
		{"8000-8000:80", []string{"80/tcp=|8000"}},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			bindings, exposed, err := portspec.Publish([]string{tt.in})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, flat(bindings)); diff != "" {
				t.Error(diff)
			}
			if len(exposed) != len(bindings) {
				t.Errorf("%d exposed ports for %d published ones", len(exposed), len(bindings))
			}
		})
	}
}

func TestPublishMany(t *testing.T) {
	t.Parallel()
	bindings, _, err := portspec.Publish([]string{"8080:80", "127.0.0.1:9090:80", "53:53/udp"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"53/udp=|53", "80/tcp=127.0.0.1|9090", "80/tcp=|8080"}
	if diff := cmp.Diff(want, flat(bindings)); diff != "" {
		t.Error(diff)
	}
}

func TestPublishErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"", "no container port"},
		{"0", "container port 0 is out of range"},
		{"8080:0", "container port 0 is out of range"},
		{"0-5:80", "host port range 0-5 begins with 0"},
		{"65536", "container port 65536 is out of range: want 1 to 65535"},
		{"65536:80", "host port 65536 is out of range: want 1 to 65535"},
		{"99999999999999999999:80", "host port 99999999999999999999 is out of range"},
		{"-1:80", "host port is empty"},
		{"+80", `container port "+80" is not a number`},
		{"http", `container port "http" is not a number`},
		{"80/icmp", `unknown protocol "icmp": want tcp, udp or sctp`},
		{"80/", `unknown protocol ""`},
		{"8000-8002:80-81", "3 host ports (8000-8002) for 2 container ports (80-81): the ranges must be of one length"},
		{"8000:80-81", "1 host ports (8000) for 2 container ports (80-81)"},
		{"81-80", "container port range 81-80 ends before it starts"},
		{"8080:80-", "container port is empty"},
		{"300.0.0.1:80:80", `"300.0.0.1" is not an IP address of the host`},
		{"myhost:80:80", `"myhost" is not an IP address of the host`},
		{"127.0.0.1:80", "a host address needs a host port or an empty one, as in 127.0.0.1::80"},
		{"[::1]:80", "a host address needs a host port or an empty one"},
		{"[::1]80", "an address in brackets is followed by a colon"},
		{"[]:80:80", "the brackets are empty"},
		{"[fe80::1%eth0]:80:80", "a zone (%eth0) cannot be published on"},
		{"8080:", "no container port"},
		{"target=80,mode=host", `unknown key "mode"`},
		{"published=80", "no container port"},
		{"target=80,target=81", "target is there twice"},
		{"target=80,x", `"x" is not KEY=VALUE`},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			_, _, err := portspec.Publish([]string{tt.in})
			if err == nil {
				t.Fatal("no error")
			}
			if prefix := fmt.Sprintf("invalid -p %q: ", tt.in); !strings.HasPrefix(err.Error(), prefix+tt.want) {
				t.Errorf("got %q, want %q…", err, prefix+tt.want)
			}
		})
	}
}

func TestExpose(t *testing.T) {
	t.Parallel()
	got, err := portspec.Expose([]string{"80", "53/udp", "8000-8001", "9/sctp"})
	if err != nil {
		t.Fatal(err)
	}
	var ports []string
	for p := range maps.Keys(got) {
		ports = append(ports, p.String())
	}
	slices.Sort(ports)
	if diff := cmp.Diff([]string{"53/udp", "80/tcp", "8000/tcp", "8001/tcp", "9/sctp"}, ports); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "0", "65536", "8080:80", "80/icmp"} {
		if _, err := portspec.Expose([]string{bad}); err == nil {
			t.Errorf("--expose %q was taken", bad)
		}
	}
}

// FuzzPublish holds what is always true: no panic, an accepted value yields
// ports of 1 to 65535, and its canonical form is accepted and means the same.
func FuzzPublish(f *testing.F) {
	for _, seed := range []string{
		"80", "8080:80", "127.0.0.1:8080:80/udp", "[::1]:8080:80", "8000-8002:80", "8000-8001:80-81",
		"::1:1:1", "[::]::80", "target=80,published=8080", "0:0", "-", "[", "]:", "=", "a=b,c",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		bindings, exposed, err := portspec.Publish([]string{in})
		if err != nil {
			return
		}
		if len(bindings) == 0 || len(bindings) != len(exposed) {
			t.Fatalf("%q: %d bindings, %d exposed", in, len(bindings), len(exposed))
		}
		for port, list := range bindings {
			if port.Num() == 0 {
				t.Fatalf("%q publishes container port 0", in)
			}
			for _, b := range list {
				canonical := b.HostPort + ":" + port.String()
				if b.HostIP.IsValid() {
					canonical = "[" + b.HostIP.String() + "]:" + canonical
				}
				again, _, err := portspec.Publish([]string{canonical})
				if err != nil {
					t.Fatalf("%q gives %q, which is refused: %v", in, canonical, err)
				}
				if len(again[port]) != 1 || again[port][0] != b {
					t.Fatalf("%q gives %q, which means %v, not %v", in, canonical, again, b)
				}
			}
		}
	})
}
