package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/trace"
)

// fault is one thing that keeps a packet from coming through, planted by hand.
type fault struct {
	// name is what is planted, in the words of docs/WHY.md.
	name string
	// plant and undo are shell commands of the host, with the names of whySite in capitals;
	// of a container where they begin with its name and a colon, and by its own shell where
	// they begin with exec. Where plant has no undo, the command that is told to mend it is
	// run, and the way is then open.
	plant, undo string
	// plantBy plants it on the host where no command does.
	plantBy func(*lab.Host) error
	// ask is the question, code what the first cause is to be.
	ask, code string
	// mend is the command that is told to mend it, without the way into a namespace.
	mend string
	// says is what the text has besides.
	says []string
	// tidy takes away what the fault was made of, after the mend.
	tidy string
}

// whyHost is a host with containers for every fault, whose healing is paused.
type whyHost struct {
	*site
	boxes map[string]box
	names *strings.Replacer
	// path has the program by its name.
	path string
}

func newWhyHost(t *testing.T) *whyHost {
	t.Helper()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "back")
	s.Must("network", "create", "other")
	s.Must("network", "create", "--internal", "vault")
	s.Must("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart")
	w := &whyHost{site: s, boxes: map[string]box{}, path: s.lab.Dir("program")}
	for _, c := range [][]string{
		{"web", "--network", "back", "--ip", "10.30.0.2", "-p", "8080:80", "-p", "9090:9090/udp", "-p", "127.0.0.1:8085:85"},
		{"db", "--network", "back", "--ip", "10.30.0.3"},
		{"far", "--network", "back", "--ip", "10.30.0.200"},
		{"six", "--network", "back"},
		{"named", "--network", "back", "--dns", outside4},
		{"unnamed", "--network", "back", "--dns", second4},
		{"second", "--network", "back", "-p", second4 + ":8082:80"},
		{"lone", "--network", "other"},
		{"safe", "--network", "vault"},
		{"bare", "--network", "none"},
		{"a1", "--network", "apart"},
		{"a2", "--network", "apart"},
	} {
		w.boxes[c[0]] = s.idle(append([]string{"--name", c[0]}, c[1:]...)...)
	}
	s.Must("create", "--name", "stopped", "--network", "back", "demo", "sleep", "3600")
	s.Must("create", "--name", "taken", "--network", "back", "-p", "8099:80", "demo", "sleep", "3600")
	t.Cleanup(s.host.Listen("tcp", "0.0.0.0:8099").Close)
	t.Cleanup(s.host.Listen("tcp", second4+":83").Close)
	for _, at := range []string{"0.0.0.0:80", "[::]:80", "127.0.0.1:82", "[::]:86"} {
		w.boxes["web"].serve("tcp", at)
	}
	w.boxes["web"].serve("udp", "0.0.0.0:9090")
	w.boxes["far"].serve("tcp", "0.0.0.0:80")
	s.outside.Listen("tcp", "0.0.0.0:443")
	serveNames(t, s.outside, outside4+":53", "known.example", outside4)
	s.Must("pause", "a2")
	s.Must("heal", "pause")
	if err := os.Symlink(lab.Binary(t), filepath.Join(w.path, "fairlead")); err != nil {
		t.Fatal(err)
	}
	lone := s.inspect("lone").NetworkSettings.Networks["other"]
	w.names = strings.NewReplacer(
		"SECONDVETH", s.vethOf(w.boxes["second"]), "DBVETH", s.vethOf(w.boxes["db"]), "VETH", s.vethOf(w.boxes["web"]),
		"BRIDGE", "br-"+s.inspect("web").NetworkSettings.Networks["back"].NetworkID[:12],
		"DBMAC", s.inspect("db").NetworkSettings.Networks["back"].MacAddress,
		"LONEGATE", lone.Gateway, "SIXADDR", w.boxes["six"].addr6.String(),
		"LONEADDR", fmt.Sprintf("%s/%d", lone.IPAddress, lone.IPPrefixLen))
	return w
}

// do runs commands where they say.
func (w *whyHost) do(commands string) {
	w.t.Helper()
	if commands == "" {
		return
	}
	commands = w.names.Replace(commands)
	if first, rest, ok := strings.Cut(commands, "\n"); ok {
		w.do(first)
		commands = rest
	}
	if args, ok := strings.CutPrefix(commands, "exec "); ok {
		name, script, _ := strings.Cut(args, " ")
		w.Must("exec", name, "sh", "-c", script)
		return
	}
	where := w.host
	if name, rest, ok := strings.Cut(commands, ": "); ok && !strings.Contains(name, " ") {
		commands = rest
		if where = w.outside; name != "outside" {
			where = w.boxes[name].Host
		}
	}
	where.Run("sh", "-ec", commands)
}

// told runs a command that was told, on the host, as a person would.
func (w *whyHost) told(command string) error {
	env := fmt.Sprintf("PATH=%s:$PATH FAIRLEAD_HOST=unix://%s; export PATH FAIRLEAD_HOST; ", w.path, w.Socket)
	if r := w.host.Try("sh", "-ec", env+command); r.Code != 0 {
		return fmt.Errorf("%s: exit status %d\n%s%s", command, r.Code, r.Stdout, r.Stderr)
	}
	return nil
}

// explained asks without a probe, of the API: what the command line makes of it is shown by others.
func (s *site) explained(question string) (e trace.Explanation) {
	s.t.Helper()
	words := strings.Fields(strings.TrimPrefix(question, "-6 "))
	q := url.Values{"from": {words[0]}, "to": {words[1]}, "ipv6": {fmt.Sprint(strings.HasPrefix(question, "-6 "))}}
	client := s.HTTP()
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://fairlead/fairlead/v1/why?" + q.Encode())
	if err != nil {
		s.t.Fatalf("why %s: %v", question, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("why %s: %s, %v", question, resp.Status, err)
	}
	return e
}

// why asks by the command line, and has the answer and the exit status.
func (s *site) why(ask string, more ...string) (e trace.Explanation, code int) {
	s.t.Helper()
	args := append([]string{"why", "-f", "json"}, more...)
	stdout, stderr, code := s.CLI(append(args, strings.Fields(ask)...)...)
	if err := json.Unmarshal([]byte(stdout), &e); err != nil {
		s.t.Fatalf("why %s: %v\n%s%s", ask, err, stdout, stderr)
	}
	return e, code
}

// through sends a packet the way that is asked for.
func (w *whyHost) through(question string) error {
	words := strings.Fields(strings.TrimPrefix(question, "-6 "))
	p := lab.Probe{From: w.outside, Proto: "icmp", Addr: words[1]}
	if words[0] != "outside" {
		p.From = w.boxes[words[0]].Host
	}
	to, port, hasPort := strings.Cut(words[1], ":")
	if b, ok := w.boxes[to]; ok {
		p.Addr = b.addr4.String()
		if words[0] == "outside" {
			p.Addr, port = host4, "8080"
		}
	} else if hasPort && !strings.HasPrefix(question, "-6") {
		p.Addr = to
	}
	if hasPort && !strings.HasPrefix(question, "-6") {
		p.Proto, p.Addr = "tcp", at(p.Addr, strings.TrimSuffix(port, "/udp"))
		if strings.HasSuffix(port, "/udp") {
			p.Proto = "udp"
		}
	}
	return p.Try()
}

var (
	// wayIn is how a command gets into a namespace, changing those that differ each time.
	wayIn    = regexp.MustCompile(`nsenter --net=\S+ `)
	changing = regexp.MustCompile(`(handle |-CONT |kill |_max=)\d+`)
)

// check asks, and says whether the fault is named with its hop and the command that mends
// it; then the fault is taken away, by that command if by no other.
func (w *whyHost) check(f fault) {
	w.t.Helper()
	w.do(f.plant)
	if f.plantBy != nil {
		if err := f.plantBy(w.host); err != nil {
			w.t.Fatal(err)
		}
	}
	e := w.explained(f.ask)
	told := text(e)
	if e.Reachable || len(e.Causes) == 0 {
		w.t.Errorf("%s: why %s: reachable; want %s\n%s", f.name, f.ask, f.code, told)
		w.do(f.undo)
		w.do(f.tidy)
		return
	}
	c := e.Causes[0]
	if c.Code != f.code {
		w.t.Errorf("%s: why %s: %s; want %s\n%s", f.name, f.ask, c.Code, f.code, told)
	}
	for _, part := range f.says {
		contains(w.t, f.name, told, w.names.Replace(part))
	}
	first, _, _ := strings.Cut(append(c.Mend, "")[0], "  # ")
	switch {
	case e.Stopped == nil || !e.Stopped.Reached || e.Stopped.Name == "":
		w.t.Errorf("%s: no hop where it was last seen\n%s", f.name, told)
	case changing.ReplaceAllString(wayIn.ReplaceAllString(first, ""), "${1}N") != w.names.Replace(f.mend):
		w.t.Errorf("%s: mended by %q; want %q\n%s", f.name, first, w.names.Replace(f.mend), told)
	case f.plant != "" && f.undo == "":
		if err := w.told(first); err != nil {
			w.t.Errorf("%s: %v", f.name, err)
		}
		w.open(f)
	}
	w.do(f.undo)
	w.do(f.tidy)
}

// open fails the test unless the way that a fault was on is open before long.
func (w *whyHost) open(f fault) {
	w.t.Helper()
	var e trace.Explanation
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if e = w.explained(f.ask); e.Reachable {
			break
		}
		if time.Now().After(deadline) {
			w.t.Errorf("after %s:\n%s", f.mend, text(e))
			return
		}
	}
	if err := w.through(f.ask); err != nil {
		w.t.Errorf("after %s: a packet does not come through: %v\n%s", f.mend, err, text(e))
	}
}

// TestWhy: each fault is named, with the hop where the packet was last seen and the command
// that mends it, which does; and without it the same question is answered with yes.
func TestWhy(t *testing.T) {
	t.Parallel()
	w := newWhyHost(t)
	w.host.Expect("table ip filter", "iptables-legacy")
	done := map[string]bool{"db nosuch.example": true, "six web:84": true}
	for _, f := range slices.Concat(rulesAndRoutes, linksAndAddresses, connections) {
		if !done[f.ask] {
			done[f.ask] = true
			if e := w.explained(f.ask); !e.Reachable {
				t.Errorf("before, why %s:\n%s", f.ask, text(e))
			}
		}
	}
	for _, f := range allFaults() {
		t.Run(f.name, func(t *testing.T) {
			in, there := *w, *w.site
			in.site, there.t = &there, t
			in.check(f)
		})
	}
}

func text(e trace.Explanation) string {
	var b strings.Builder
	_ = e.WriteText(&b)
	return b.String()
}
