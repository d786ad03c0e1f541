package e2e

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/lab"
)

// crashPoints are all the places where the daemon is killed, by operation. What a
// run passes and is not here fails the test, and so does what is here and is not
// passed.
var crashPoints = map[string][]string{
	"attach":         {"begin", "namespace", "firewall", "forgetflows", "veth", "interface", "publish", "commit"},
	"detach":         {"begin", "withdraw", "dropnamespace", "firewall", "forgetflows", "commit"},
	"network-create": {"begin", "firewall", "bridge", "stored", "commit"},
	"network-rm":     {"begin", "unstored", "bridge", "firewall", "commit"},
}

// recoverPoints are passed when an operation that was cut short is ended: a second
// crash, on the way back. The operation is cut short at the point named first.
var recoverPoints = map[string][]string{
	"attach.publish":        {"withdraw", "dropnamespace", "firewall", "forgetflows"},
	"detach.begin":          {"withdraw", "dropnamespace", "firewall", "forgetflows"},
	"network-create.bridge": {"bridge", "firewall"},
	"network-rm.unstored":   {"bridge", "firewall"},
}

// enginePoints are the engine's own, between the network and containerd.
var enginePoints = []string{
	"engine-create-made", "engine-start-prepared", "engine-start-created", "engine-start-started",
	"engine-exit", "engine-exit-recorded", "engine-remove-forgotten", "engine-remove",
}

// known says whether a point is in one of the lists.
func known(point string) bool {
	op, step, _ := strings.Cut(point, ".")
	if op == "recover" {
		return slices.ContainsFunc(slices.Collect(maps.Values(recoverPoints)), func(steps []string) bool { return slices.Contains(steps, step) })
	}
	return slices.Contains(crashPoints[op], step) || slices.Contains(enginePoints, point)
}

// crashing is a site whose daemon is killed again and again, and what must not
// notice.
type crashing struct {
	*site
	// quiet is the host as it is with the bystander alone.
	quiet string
	// bystander runs all the time, and so does a connection to it from outside.
	bystander box
	pid       int
	conn      net.Conn
	log       string
}

// The published ports of the bystander and of the container that is made and taken
// away.
const bystanderPort, victimPort = "7000", "8080"

// newCrashing makes a site with a network "dual", a bystander on the default
// network and a container "victim" that is not running.
func newCrashing(t *testing.T) *crashing {
	t.Helper()
	c := &crashing{site: newSite(t), log: filepath.Join(t.TempDir(), "points")}
	c.Must("network", "create", "--ipv6", "dual")
	c.bystander = c.idle("--name", "bystander", "-p", bystanderPort+":7000")
	c.pid = c.inspect("bystander").State.Pid
	c.bystander.serve("tcp", "0.0.0.0:7000")
	conn, err := c.outside.Dial("tcp", at(host4, bystanderPort), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c.conn = conn
	if _, err := conn.Read(make([]byte, 100)); err != nil { // its greeting
		t.Fatal(err)
	}
	c.Must("create", "--name", "victim", "--network", "dual", "-p", victimPort+":80", "-p", victimPort+":80/udp", "demo", "httpd", "-f", "-h", "/www")
	c.quiet = c.present()
	return c
}

// present lists what there is of the daemon's on the host, in an order of its own.
func (c *crashing) present() string {
	c.t.Helper()
	var lines []string
	for _, text := range []string{
		c.host.Run("nft", "--stateless", "list", "ruleset"),
		listening(c.host),
	} {
		for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == ',' }) {
			line, _, _ = strings.Cut(line, " # progname") // whoever took the table over
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	for line := range strings.Lines(c.host.Run("ip", "-br", "addr")) {
		// Neither whether it carries nor the addresses that come and go with it.
		fields := slices.DeleteFunc(strings.Fields(line), func(f string) bool {
			return f == "UP" || f == "DOWN" || f == "UNKNOWN" || strings.HasPrefix(f, "fe80:")
		})
		lines = append(lines, strings.Join(fields, " "))
	}
	for _, dir := range []string{"netns", "state/leases", "state/journal", "io"} {
		names, _ := filepath.Glob(filepath.Join(c.ExecRoot, dir, "*"))
		lines = append(lines, names...)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// listening lists the host's sockets that wait for clients, without the lengths of
// their queues.
func listening(h *lab.Host) string {
	var b strings.Builder
	for line := range strings.Lines(h.Run("ss", "-Hltun")) {
		if f := strings.Fields(line); len(f) > 4 {
			fmt.Fprintln(&b, f[0], f[4])
		}
	}
	return b.String()
}

// arm restarts the daemon so that it will kill itself at the point; without one it
// notes all that it passes.
func (c *crashing) arm(point string) {
	c.t.Helper()
	if c.Running() {
		c.Stop()
	}
	if point == "" {
		c.Start(crashpoint.LogEnv + "=" + c.log)
		return
	}
	c.Start(crashpoint.Env + "=" + point)
}

// passed returns the points that were passed since arm("").
func (c *crashing) passed() []string {
	c.t.Helper()
	text, err := os.ReadFile(c.log)
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// died waits until the daemon has killed itself.
func (c *crashing) died(point string) {
	c.t.Helper()
	if code := c.Wait(); code != 128+int(syscall.SIGKILL) {
		c.t.Fatalf("%s: the daemon ended with exit status %d, not by SIGKILL\n%s", point, code, c.LogTail(20))
	}
}

// undisturbed fails the test unless the bystander, and its connection, are as they
// were.
func (c *crashing) undisturbed(point string) {
	c.t.Helper()
	word := point + "\n"
	_ = c.conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.conn.Write([]byte(word)); err != nil {
		c.t.Fatalf("%s: the bystander's connection: %v", point, err)
	}
	echo := make([]byte, len(word))
	if _, err := io.ReadFull(c.conn, echo); err != nil || string(echo) != word {
		c.t.Fatalf("%s: the bystander's connection: %q, %v", point, echo, err)
	}
	if now := c.inspect("bystander").State; !now.Running || now.Pid != c.pid {
		c.t.Fatalf("%s: the bystander: %+v, was process %d", point, now, c.pid)
	}
	lab.Reachable(c.t, c.host, "tcp", at("127.0.0.1", bystanderPort))
}

// recovered starts the daemon and fails the test unless all is well.
func (c *crashing) recovered(point string) {
	c.t.Helper()
	c.Start()
	c.consistent()
	c.undisturbed(point)
}

// asQuiet fails the test if there is more on the host, or less, than with the
// bystander alone.
func (c *crashing) asQuiet(point string) {
	c.t.Helper()
	if now := c.present(); now != c.quiet {
		c.t.Errorf("%s: the host is not as it was before:\n%s", point, changes(c.quiet, now))
	}
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// changes lists the lines that one text has and the other has not.
func changes(before, after string) string {
	var out []string
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}

// up starts the container whose address, ports and name must be free, and fails the
// test unless it is reached.
func (c *crashing) up(point string) {
	c.t.Helper()
	c.Must("start", "victim")
	n := c.inspect("victim").NetworkSettings.Networks["dual"]
	if want := ".2"; !strings.HasSuffix(n.IPAddress, want) {
		c.t.Errorf("%s: the address is %s: an earlier one was not given back", point, n.IPAddress)
	}
	for _, addr := range []string{at(host4, victimPort), at(host6, victimPort)} {
		c.fetches(c.outside, addr)
	}
	for _, addr := range []string{at(host4, victimPort), at("127.0.0.1", victimPort), at("::1", victimPort)} {
		c.fetches(c.host, addr)
	}
	c.consistent()
}

// down ends the container.
func (c *crashing) down(point string) {
	c.t.Helper()
	c.Must("kill", "victim")
	if code := c.Must("wait", "victim"); code != "137" {
		c.t.Errorf("%s: exit code %s", point, code)
	}
	c.asQuiet(point)
}

// fetches fails the test unless the demo image's web server answers.
func (c *crashing) fetches(from *lab.Host, addr string) {
	c.t.Helper()
	lab.Reachable(c.t, from, "tcp", addr)
	if got, err := fetch(from, addr); err != nil || got != page {
		c.t.Errorf("%s → http://%s: %q, %v", from.Name(), addr, got, err)
	}
}

// fetch gets the page from a web server, in a connection of its own.
func fetch(from *lab.Host, addr string) (string, error) {
	conn, err := from.Dial("tcp", addr, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return body, nil
}

// complete fails the test unless the points of op that were passed are those of
// the list, and the others are in a list, too.
func (c *crashing) complete(op string) {
	c.t.Helper()
	var own []string
	for _, p := range c.passed() {
		if !known(p) {
			c.t.Errorf("the point %s is in no list", p)
		}
		if name, step, _ := strings.Cut(p, "."); name == op && !slices.Contains(own, step) {
			own = append(own, step)
		}
	}
	if !slices.Equal(own, crashPoints[op]) {
		c.t.Errorf("%s passes %v, the list is %v", op, own, crashPoints[op])
	}
}

// TestCrashAttach: the daemon is killed at every point of an attachment. After a
// restart nothing is left of it, and address, ports and name can be used.
func TestCrashAttach(t *testing.T) {
	t.Parallel()
	c := newCrashing(t)
	c.arm("")
	c.up("no crash")
	c.down("no crash")
	c.complete("attach")
	points := []string{"engine-start-prepared", "engine-start-created"}
	for _, step := range crashPoints["attach"] {
		points = append(points, "attach."+step)
	}
	for _, point := range points {
		c.arm(point)
		if _, stderr, code := c.CLI("start", "victim"); code == 0 {
			t.Errorf("%s: start succeeded: %s", point, stderr)
		}
		c.died(point)
		c.recovered(point)
		if state := c.inspect("victim").State; state.Running {
			t.Errorf("%s: %+v", point, state)
		}
		c.asQuiet(point)
		c.up(point)
		c.down(point)
	}
}

// TestCrashDetach: the daemon is killed at every point of the end of a container's
// network. After a restart it has ended, with its exit code.
func TestCrashDetach(t *testing.T) {
	t.Parallel()
	c := newCrashing(t)
	c.arm("")
	c.up("no crash")
	c.down("no crash")
	c.complete("detach")
	points := []string{"engine-exit", "engine-exit-recorded"}
	for _, step := range crashPoints["detach"] {
		points = append(points, "detach."+step)
	}
	for _, point := range points {
		c.arm(point)
		c.up(point)
		_, _, _ = c.CLI("kill", "victim") // the daemon may die before it answers
		c.died(point)
		c.recovered(point)
		if state := c.inspect("victim").State; state.Status != "exited" || state.ExitCode != 137 {
			t.Errorf("%s: %+v", point, state)
		}
		c.asQuiet(point)
	}
	c.up("the end")
	c.down("the end")
}

// TestCrashNetwork: the daemon is killed at every point of making and of removing a
// network. After a restart it is there whole or not at all.
func TestCrashNetwork(t *testing.T) {
	t.Parallel()
	c := newCrashing(t)
	create := []string{"network", "create", "--subnet", "10.123.0.0/24", "--subnet", "fd12:3456::/64", "--ipv6", "net"}
	exists := func() bool { return strings.Contains(c.Must("network", "ls"), " net ") }
	c.arm("")
	c.Must(create...)
	whole := c.present()
	c.Must("network", "rm", "net")
	c.complete("network-create")
	c.complete("network-rm")
	settled := func(point string) {
		t.Helper()
		if exists() {
			if now := c.present(); len(now) != len(whole) {
				t.Errorf("%s: the network is there, and not whole:\n%s", point, changes(whole, now))
			}
			c.Must("network", "rm", "net")
		}
		c.asQuiet(point)
	}
	settled("no crash")
	for _, step := range crashPoints["network-create"] {
		point := "network-create." + step
		c.arm(point)
		if _, stderr, code := c.CLI(create...); code == 0 {
			t.Errorf("%s: it succeeded: %s", point, stderr)
		}
		c.died(point)
		c.recovered(point)
		if made := step == "stored" || step == "commit"; exists() != made {
			t.Errorf("%s: the network exists: %v", point, exists())
		}
		settled(point)
	}
	for _, step := range crashPoints["network-rm"] {
		point := "network-rm." + step
		c.arm(point)
		c.Must(create...)
		if _, stderr, code := c.CLI("network", "rm", "net"); code == 0 {
			t.Errorf("%s: it succeeded: %s", point, stderr)
		}
		c.died(point)
		c.recovered(point)
		if exists() && step != "begin" {
			t.Errorf("%s: the network is there", point)
		}
		settled(point)
	}
}

// TestCrashRecovery: the daemon is killed once more while it ends what the first
// crash cut short.
func TestCrashRecovery(t *testing.T) {
	t.Parallel()
	c := newCrashing(t)
	create := []string{"network", "create", "--subnet", "10.123.0.0/24", "net"}
	first := map[string]func(){
		"attach.publish":        func() { _, _, _ = c.CLI("start", "victim") },
		"detach.begin":          func() { c.Must("start", "victim"); _, _, _ = c.CLI("kill", "victim") },
		"network-create.bridge": func() { _, _, _ = c.CLI(create...) },
		"network-rm.unstored":   func() { c.Must(create...); _, _, _ = c.CLI("network", "rm", "net") },
	}
	for _, point := range slices.Sorted(maps.Keys(recoverPoints)) {
		for i, step := range recoverPoints[point] {
			second := fmt.Sprintf("%s, then recover.%s", point, step)
			c.arm(point)
			first[point]()
			c.died(second)
			if i == 0 { // the restart passes these and no others
				c.Start(crashpoint.LogEnv + "=" + c.log)
				var got []string
				for _, p := range c.passed() {
					if step, ok := strings.CutPrefix(p, "recover."); ok {
						got = append(got, step)
					}
				}
				if !slices.Equal(got, recoverPoints[point]) {
					t.Errorf("%s: the way back passes %v, the list is %v", point, got, recoverPoints[point])
				}
				_ = os.Remove(c.log)
				c.asQuiet(second)
				c.arm(point)
				first[point]()
				c.died(second)
			}
			if err := c.TryStart(crashpoint.Env + "=recover." + step); err == nil {
				t.Errorf("%s: the daemon lives", second)
			}
			c.died(second)
			c.recovered(second)
			c.asQuiet(second)
		}
	}
	c.up("the end")
	c.down("the end")
}

// TestCrashEngine: the daemon is killed at the points around the network's, where
// containers come to be and cease to be.
func TestCrashEngine(t *testing.T) {
	t.Parallel()
	c := newCrashing(t)
	c.arm("")
	c.Must("run", "--name", "short", "-p", "9000:80", "demo", "true")
	c.Must("rm", "short")
	c.Must("run", "--rm", "demo", "true")
	for _, p := range enginePoints {
		if !slices.Contains(c.passed(), p) {
			t.Errorf("the point %s is passed no more", p)
		}
	}
	c.asQuiet("no crash")
	exists := func() bool { return strings.Contains(c.Must("ps", "-a"), "short") }
	long := []string{"run", "-d", "--name", "short", "-p", "9000:80", "demo", "sleep", "3600"}
	for _, step := range []struct {
		point    string
		do       []string
		setup    []string
		survives bool
	}{
		{point: "engine-create-made", do: long},
		{point: "engine-start-started", do: long, survives: true},
		{point: "engine-remove", do: []string{"rm", "-f", "short"}, setup: long},
		{point: "engine-remove-forgotten", do: []string{"rm", "-f", "short"}, setup: long},
	} {
		c.arm(step.point)
		if step.setup != nil {
			c.Must(step.setup...)
		}
		_, _, _ = c.CLI(step.do...)
		c.died(step.point)
		c.recovered(step.point)
		if exists() != step.survives {
			t.Errorf("%s: the container is there: %v", step.point, exists())
		}
		if exists() {
			if !c.inspect("short").State.Running {
				t.Errorf("%s: the container does not run", step.point)
			}
			c.Must("rm", "-f", "short")
		}
		c.asQuiet(step.point)
		c.Must(long...)
		c.Must("rm", "-f", "short")
	}
	// One that removes itself, of which only the network is left.
	c.arm("engine-exit")
	_, _, _ = c.CLI("run", "-d", "--rm", "--name", "short", "-p", "9000:80", "demo", "true")
	c.died("engine-exit of --rm")
	c.recovered("engine-exit of --rm")
	eventually(t, "the container removes itself", func() bool { return !exists() })
	c.asQuiet("engine-exit of --rm")
}
