package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/trace"
)

// path follows a packet and returns what was seen, and the exit status.
func (s *site) path(args ...string) (seen trace.Observation, code int) {
	s.t.Helper()
	stdout, stderr, code := s.CLI(append([]string{"capture", "--path", "-f", "json"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &seen); err != nil {
		s.t.Fatalf("capture --path %q: exit status %d, %v\n%s%s", args, code, err, stdout, stderr)
	}
	if len(seen.Unwatched) > 0 {
		s.t.Errorf("capture --path %q: not watched: %q", args, seen.Unwatched)
	}
	return seen, code
}

// hops are the kinds of interfaces where it was seen, in order, and the way.
func hops(seen trace.Observation) string {
	var out []string
	for _, h := range seen.Seen {
		arrow := ">"
		if h.Back {
			arrow = "<"
		}
		out = append(out, arrow+string(h.Kind))
	}
	return strings.Join(out, " ")
}

// TestE4Path: one packet of a container is seen at its eth0, the host's veth, the
// bridge and the uplink, and its answer on the way back, with the addresses before and
// after translation, by ping, TCP and UDP, IPv4 and IPv6, with both back ends; a packet to
// a published port and to another container as well. A foreign rule that drops is named.
func TestE4Path(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "--firewall-backend", backend)
			s.Must("network", "create", "--ipv6", "--subnet", "10.31.0.0/24", "--subnet", "fd00:31::/64", "dual")
			red := s.idle("--name", "red", "--network", "dual")
			blue := s.idle("--name", "blue", "--network", "dual", "-p", "8080:80")
			blue.serve("tcp", "0.0.0.0:80")
			for _, proto := range []string{"tcp", "udp"} {
				s.outside.Listen(proto, "0.0.0.0:7")
				s.outside.Listen(proto, "[::]:7")
			}
			for _, a := range []string{outside4, outside6} {
				lab.Reachable(t, red.Host, "icmp", a)
			}
			away := ">container >peer >bridge >uplink <uplink <bridge <peer <container"
			for _, c := range []struct {
				args         []string
				hops, before string
			}{
				{[]string{"red", outside4}, away, red.addr4.String()},
				{[]string{"red", outside4 + ":7"}, away, red.addr4.String()},
				{[]string{"red", outside4 + ":7/udp"}, away, red.addr4.String()},
				{[]string{"red", outside6}, away, red.addr6.String()},
				{[]string{"red", "[" + outside6 + "]:7"}, away, red.addr6.String()},
				{[]string{"red", "[" + outside6 + "]:7/udp"}, away, red.addr6.String()},
				{[]string{"red", "host"}, ">container >peer >bridge <bridge <peer <container", red.addr4.String()},
				{[]string{"-6", "red", "blue"}, ">container >peer >peer >container <container <peer <peer <container", red.addr6.String()},
			} {
				seen, code := s.path(c.args...)
				if got := hops(seen); got != c.hops || code != 0 || seen.Answer.Kind != trace.AnswerYes {
					t.Errorf("%q: seen at %s, want %s; exit status %d, answer %+v, drops %+v", c.args, got, c.hops, code, seen.Answer, seen.Drops)
					continue
				}
				for i, h := range seen.Seen[:len(seen.Seen)/2] {
					want := []string{c.before}
					if h.Kind == trace.HopUplink {
						want = []string{host4, second4, host6, second6}
					}
					source, back := h.Flow.Source, seen.Seen[len(seen.Seen)-1-i].Flow.Destination
					if !slices.Contains(want, source.Addr().String()) || back.Addr() != source.Addr() {
						t.Errorf("%q at %s: from %s, back to %s; want %s", c.args, h.Interface, source, back, want)
					}
				}
			}
			s.dropped(blue)
		})
	}
}

// dropped plants a rule of another program, and looks for it in what is printed.
func (s *site) dropped(blue box) {
	s.t.Helper()
	s.host.Run("nft", "add table inet planted; add chain inet planted wall { type filter hook forward priority -5; }; add rule inet planted wall tcp dport 7 drop")
	stdout, stderr, code := s.CLI("capture", "--path", "red", outside4+":7")
	s.host.Run("nft", "delete table inet planted")
	contains(s.t, "capture --path", stdout, "TCP connection from red:", "→ SYN", "✗ SYN", "NETFILTER_DROP",
		"table inet planted, chain wall, rule with handle 2: tcp dport 7 drop.", "Not answered: last seen on host at ")
	if code != 1 || stderr != "" {
		s.t.Errorf("not answered, the exit status is %d\n%s", code, stderr)
	}
	s.host.Run("iptables-legacy", "-I", "FORWARD", "-p", "tcp", "--dport", "7", "-j", "DROP")
	stdout, _, _ = s.CLI("capture", "--path", "red", outside4+":7")
	s.host.Run("iptables-legacy", "-D", "FORWARD", "-p", "tcp", "--dport", "7", "-j", "DROP")
	contains(s.t, "capture --path", stdout, "✗ SYN", "NETFILTER_DROP", "Not watched: host: rules of iptables-legacy, one of which may have dropped it")
	for _, refused := range [][2]string{{"outside red", "no packet can be sent from outside"}, {"red outside", "needs an address there"}} {
		if _, stderr, code := s.CLI(append([]string{"capture", "--path"}, strings.Fields(refused[0])...)...); code == 0 || !strings.Contains(stderr, refused[1]) {
			s.t.Errorf("--path %s: exit code %d, %s", refused[0], code, stderr)
		}
	}
	// From the host, where the address is its own: nothing but the address changes.
	stdout, _, code = s.CLI("capture", "--path", "host", blue.addr4.String()+":80")
	contains(s.t, "capture --path host", stdout, "→ SYN", "← SYN-ACK", "Answered by "+blue.addr4.String())
	if code != 0 {
		s.t.Errorf("answered, the exit status is %d\n%s", code, stdout)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"nobody", outside4}, "nobody"},
		{[]string{"red", outside4 + ":0"}, "no port"},
		{[]string{"red", outside4 + "/sctp"}, "sctp"},
		{[]string{"outside", outside4}, "outside"},
	} {
		if stdout, stderr, code := s.CLI(append([]string{"capture", "--path"}, c.args...)...); code == 0 || !strings.Contains(stderr, c.says) {
			s.t.Errorf("%q: exit status %d\n%s%s", c.args, code, stdout, stderr)
		}
	}
}

// TestPathKilled: of a daemon that is killed while it follows a packet no table, no
// program of the kernel's and no socket is left; and none after a path that ended, or
// whose client went away.
func TestPathKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.idle("--name", "red")
	s.path("red", "host")
	s.nothingLeft(nil)
	begin := func() []ebpf.ProgramID {
		// Nobody has that address: the kernel asks for three seconds.
		ctx, cancel := context.WithCancel(context.Background())
		cmd := s.Command(ctx, "capture", "--path", "red", "172.17.255.250")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = cmd.Wait() })
		var programs []ebpf.ProgramID
		eventually(t, "a packet is followed", func() bool {
			programs = s.programs()
			return len(programs) > 0 && strings.Contains(s.host.Run("nft", "list", "tables"), "fairlead_trace_")
		})
		return programs
	}
	programs := begin()
	s.Kill()
	s.nothingLeft(programs)
	s.Start()
}

// programs are the BPF programs of tracepoints that the daemon has.
func (s *site) programs() (out []ebpf.ProgramID) {
	s.t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", s.PID()))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for line := range strings.Lines(string(text)) {
			var id ebpf.ProgramID
			if _, err := fmt.Sscanf(line, "prog_id: %d", &id); err == nil && !slices.Contains(out, id) && isTracepoint(id) {
				out = append(out, id)
			}
		}
	}
	return out
}

func isTracepoint(id ebpf.ProgramID) bool {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return false
	}
	defer p.Close()
	return p.Type() == ebpf.RawTracepoint
}

// nothingLeft waits until the programs and every table of a trace are gone.
func (s *site) nothingLeft(programs []ebpf.ProgramID) {
	s.t.Helper()
	eventually(s.t, "nothing is left of a trace", func() bool {
		return !slices.ContainsFunc(programs, isTracepoint) && !strings.Contains(s.host.Run("nft", "list", "tables"), "fairlead_trace_")
	})
	if sockets := s.host.Run("ss", "-0", "-H"); sockets != "" {
		s.t.Errorf("packet sockets are left:\n%s", sockets)
	}
}
