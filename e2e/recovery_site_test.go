package e2e

import (
	"fmt"
	"io"
	"iter"
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
func newCrashing(t *testing.T, backend string) *crashing {
	t.Helper()
	return newSiteOn(t, backend).crashing()
}

// crashing is newCrashing on a site that is there.
func (s *site) crashing() *crashing {
	t := s.t
	t.Helper()
	c := &crashing{site: s, log: filepath.Join(t.TempDir(), "points")}
	c.Must("network", "create", "--ipv6", "dual")
	c.bystander = c.idle("--name", "bystander", "-p", bystanderPort+":7000")
	c.pid = c.inspect("bystander").State.Pid
	c.bystander.serve("tcp", "0.0.0.0:7000")
	c.dial()
	c.Must("create", "--name", "victim", "--network", "dual", "-p", victimPort+":80", "-p", victimPort+":80/udp", "demo", "httpd", "-f", "-h", "/www")
	c.quiet = c.present()
	return c
}

// dial makes the connection to the bystander.
func (c *crashing) dial() {
	c.t.Helper()
	conn, err := c.outside.Dial("tcp", at(host4, bystanderPort), 5*time.Second)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	c.conn = conn
	if _, err := conn.Read(make([]byte, 100)); err != nil { // its greeting
		c.t.Fatal(err)
	}
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
			if strings.Contains(line, "ct count over") && !strings.Contains(line, "addr ct count over") {
				continue // who has connections just now, and not the rule that counts them
			}
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	for line := range addresses(c.host) {
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

// addresses lists the host's links and their addresses, without those of sandboxes kept
// ready, which are others each time.
func addresses(h *lab.Host) iter.Seq[string] {
	return func(yield func(string) bool) {
		// One may come or go between two looks.
		links := h.Run("ip", "-o", "link")
		all := h.Run("ip", "-br", "addr")
		links += h.Run("ip", "-o", "link")
		spare := make(map[string]bool)
		for line := range strings.Lines(links) {
			if f := strings.Fields(line); strings.Contains(line, ":spare:") {
				spare[strings.TrimSuffix(f[1], ":")] = true
			}
		}
		for line := range strings.Lines(all) {
			if name, _, _ := strings.Cut(line, " "); !spare[name] && !yield(line) {
				return
			}
		}
	}
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
