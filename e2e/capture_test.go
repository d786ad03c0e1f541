package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// capturing is a `fairlead capture` under way.
type capturing struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan error

	mu        sync.Mutex
	out, errs bytes.Buffer
}

// capture starts one, and waits until it has begun.
func (s *site) capture(args ...string) *capturing {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	c := &capturing{t: s.t, cmd: s.Command(ctx, append([]string{"capture"}, args...)...), done: make(chan error, 1)}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	errs, err := c.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { c.note(out, &c.out) })
	readers.Go(func() { c.note(errs, &c.errs) })
	go func() {
		readers.Wait()
		c.done <- c.cmd.Wait()
		cancel()
	}()
	s.t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	c.says(&c.errs, "^capturing ")
	return c
}

func (c *capturing) note(from io.Reader, to *bytes.Buffer) {
	for lines := bufio.NewReader(from); ; {
		b, err := lines.ReadBytes('\n')
		c.mu.Lock()
		to.Write(b)
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *capturing) text(of *bytes.Buffer) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return of.String()
}

// says waits for a line.
func (c *capturing) says(in *bytes.Buffer, line string) {
	c.t.Helper()
	want := regexp.MustCompile("(?m)" + line)
	deadline := time.Now().Add(30 * time.Second)
	for !want.MatchString(c.text(in)) {
		if time.Now().After(deadline) {
			c.t.Fatalf("capture does not say %q; it says\n%s%s", line, c.text(&c.out), c.text(&c.errs))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// end interrupts it and returns what it said at the end.
func (c *capturing) end() string {
	c.t.Helper()
	_ = c.cmd.Process.Signal(os.Interrupt)
	return c.ended(0)
}

func (c *capturing) ended(code int) string {
	c.t.Helper()
	select {
	case err := <-c.done:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() != code || err == nil && code != 0 {
			c.t.Errorf("capture: %v, want exit code %d\n%s", err, code, c.text(&c.errs))
		}
	case <-time.After(60 * time.Second):
		c.t.Fatalf("capture does not end; it says\n%s", c.text(&c.errs))
	}
	return c.text(&c.errs)
}

// TestD4Capture: a container's packets are shown live, by name and in both directions, and
// written for other tools; nothing is needed inside it, and nothing is left afterwards.
func TestD4Capture(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.41.0.0/24", "--subnet", "fd00:41::/64", "back")
	web := s.idle("--name", "web", "--network", "back")
	db := s.idle("--name", "db", "--network", "back")
	web.serve("tcp", "0.0.0.0:80")
	web.serve("tcp", "[::]:80")
	address := s.inspect("web").NetworkSettings.Networks["back"]

	t.Run("live", func(t *testing.T) {
		c := s.capture("web", "tcp", "port", "80")
		lab.Reachable(t, db.Host, "tcp", address.IPAddress+":80")
		lab.Reachable(t, db.Host, "tcp", "["+address.GlobalIPv6Address+"]:80")
		c.says(&c.out, `eth0 In  IP db:\d+ > web:80: Flags \[S\], seq \d+, win \d+, length 0$`)
		c.says(&c.out, `eth0 Out IP web:80 > db:\d+: Flags \[S\.\], seq \d+, ack \d+, `)
		c.says(&c.out, `eth0 In  IP6 db:\d+ > web:80: Flags \[S\]`)
		c.says(&c.out, `eth0 Out IP6 web:80 > db:\d+: Flags \[S\.\]`)
		if text := c.end(); !regexp.MustCompile(`(?m)^\d+ packets captured\n\d+ packets received by filter\n0 packets dropped by kernel$`).MatchString(text) {
			t.Errorf("at the end it says\n%s", text)
		}
		t.Logf("\n%s", c.text(&c.out))
		said := regexp.MustCompile(`.*capture ended.*`)
		eventually(t, "the log tells of the end", func() bool { return said.MatchString(s.log()) })
		if line := said.FindString(s.log()); strings.Contains(line, "err") {
			t.Errorf("a capture that ended well is logged with an error: %s", line)
		}
	})
	t.Run("network", func(t *testing.T) {
		c := s.capture("-n", "-c", "2", "back", "icmp and host web")
		lab.Reachable(t, db.Host, "icmp", address.IPAddress)
		text := c.ended(0)
		for _, want := range []string{`P   IP 10\.41\.0\.\d > ` + address.IPAddress + `: ICMP echo request`, `P   IP ` + address.IPAddress + ` > 10\.41\.0\.\d: ICMP echo reply`} {
			if !regexp.MustCompile(want).MatchString(c.text(&c.out)) {
				t.Errorf("no %q in\n%s", want, c.text(&c.out))
			}
		}
		if !strings.Contains(text, "2 packets captured\n") {
			t.Errorf("at the end it says\n%s", text)
		}
	})
	t.Run("file", func(t *testing.T) { captureToFile(t, s, db, address.IPAddress) })
	t.Run("chosen", func(t *testing.T) { captureChosen(t, s, web, db, address.IPAddress) })
	t.Run("by time", func(t *testing.T) {
		dir := t.TempDir()
		c := s.capture("-w", filepath.Join(dir, "web.pcapng"), "-G", "1", "-W", "2", "web", "icmp")
		last := filepath.Join(dir, "web-0003.pcapng")
		eventually(t, "a third file is begun, two seconds after the first", func() bool {
			lab.Reachable(t, db.Host, "icmp", address.IPAddress)
			_, err := os.Stat(last)
			return err == nil
		})
		c.end()
		if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 2 {
			t.Errorf("files %v, want the last two", names)
		}
		if out, err := exec.Command("tcpdump", "-nr", last).CombinedOutput(); err != nil || !strings.Contains(string(out), "ICMP echo request") {
			t.Errorf("tcpdump reads: %v\n%s", err, out)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for args, want := range map[string]string{
			"web vlan 7":         "is not understood here",
			"web tcp and":        "it ends where",
			"nosuch":             "there is no container or network nosuch",
			"-i eth7 web":        "has no interface eth7",
			"-C 1 web":           "-w FILE",
			"-Q sideways web":    "want in, out or inout",
			"web host elsewhere": `no container with an address is called "elsewhere"`,
		} {
			if _, errs, code := s.CLI(append([]string{"capture"}, strings.Fields(args)...)...); code == 0 || !strings.Contains(errs, want) {
				t.Errorf("capture %s: exit code %d: %s, want %q", args, code, errs, want)
			}
		}
	})
	t.Run("client killed", func(t *testing.T) {
		c := s.capture("web")
		if n := packetSockets(web.Host); n != 1 {
			t.Errorf("%d packet sockets while one interface is captured on", n)
		}
		_ = c.cmd.Process.Kill()
		eventually(t, "the daemon has no packet socket", func() bool { return packetSockets(web.Host) == 0 })
	})
	t.Run("stopped", func(t *testing.T) {
		c := s.capture("db")
		s.Must("stop", "-t", "0", "db")
		if text := c.ended(0); !strings.Contains(text, "packets captured") {
			t.Errorf("after the container stopped:\n%s", text)
		}
	})
	t.Run("daemon killed", func(t *testing.T) {
		c := s.capture("-i", "any", "web")
		s.Kill()
		if text := c.ended(1); !strings.Contains(text, "the daemon went away") {
			t.Errorf("after the daemon was killed:\n%s", text)
		}
		if n := packetSockets(web.Host); n != 0 {
			t.Errorf("%d packet sockets are left", n)
		}
		s.Start()
	})
}

// captureChosen is what -Q, -i, the target host and -w - choose.
func captureChosen(t *testing.T, s *site, web, from box, address string) {
	c := s.capture("-n", "-Q", "out", "-c", "1", "web", "icmp")
	lab.Reachable(t, from.Host, "icmp", address)
	c.ended(0)
	if text := c.text(&c.out); !strings.Contains(text, "eth0 Out IP "+address) || strings.Contains(text, "echo request") {
		t.Errorf("of what goes out it says\n%s", text)
	}
	c = s.capture("-n", "-i", "lo", "-c", "1", "web", "icmp")
	lab.Reachable(t, from.Host, "icmp", address) // which is not seen there
	lab.Reachable(t, web.Host, "icmp", "127.0.0.1")
	c.ended(0)
	if text := c.text(&c.out); !strings.Contains(text, "127.0.0.1 > 127.0.0.1: ICMP echo request") {
		t.Errorf("of lo it says\n%s", text)
	}
	c = s.capture("-n", "-c", "2", "host", "icmp and host "+outside4)
	lab.Reachable(t, from.Host, "icmp", address)
	lab.Reachable(t, s.outside, "icmp", host4)
	c.ended(0)
	if text := c.text(&c.out); !strings.Contains(text, "uplink In  IP "+outside4+" > "+host4+": ICMP echo request") || !strings.Contains(text, "uplink Out IP "+host4) {
		t.Errorf("of the host it says\n%s", text)
	}
	c = s.capture("-w", "-", "-c", "2", "web", "icmp")
	lab.Reachable(t, from.Host, "icmp", address)
	c.ended(0)
	read := exec.Command("tcpdump", "-nr", "-")
	read.Stdin = strings.NewReader(c.text(&c.out))
	if out, err := read.CombinedOutput(); err != nil || !strings.Contains(string(out), "> "+address+": ICMP echo request") || !strings.Contains(string(out), "ICMP echo reply") {
		t.Errorf("tcpdump reads of a pipe: %v\n%s", err, out)
	}
}

// packetSockets is how many there are in the host's namespace.
func packetSockets(h *lab.Host) int {
	return strings.Count(strings.TrimSpace(h.Run("cat", "/proc/thread-self/net/packet")), "\n")
}

// captureToFile writes what another tool reads, and several files.
func captureToFile(t *testing.T, s *site, from box, address string) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.pcapng")
	c := s.capture("-w", file, s.inspect("web").ID, "icmp")
	lab.Reachable(t, from.Host, "icmp", address)
	eventually(t, "the file has packets", func() bool {
		out, _ := exec.Command("tcpdump", "-nr", file).Output()
		return strings.Contains(string(out), "ICMP echo reply")
	})
	c.end()
	out, err := exec.Command("tcpdump", "-nr", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "> "+address+": ICMP echo request") {
		t.Errorf("tcpdump reads: %v\n%s", err, out)
	}
	// Fields, so that it is tshark's own reading; the names of interfaces are ours.
	out, err = exec.Command("tshark", "-r", file, "-T", "fields", "-e", "frame.interface_name", "-e", "ip.dst", "-e", "icmp.type").Output()
	if err != nil || !strings.Contains(string(out), "\t"+address+"\t8\n") || !strings.HasPrefix(string(out), "eth0") {
		t.Errorf("tshark reads: %v\n%s", err, out)
	}
	c = s.capture("-w", filepath.Join(dir, "many.pcapng"), "-C", "1", "-W", "2", "-c", "2100", "web", "icmp")
	from.Run("ping", "-n", "-q", "-f", "-c", "1100", "-s", "1400", address)
	c.ended(0)
	names, _ := filepath.Glob(filepath.Join(dir, "many-*.pcapng"))
	if len(names) != 2 || filepath.Base(names[1]) != "many-0004.pcapng" {
		t.Errorf("files %v, want the last two of four", names)
	}
	for _, name := range names {
		out, err := exec.Command("tcpdump", "-nr", name).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ICMP echo") {
			t.Errorf("%s: %v\n%.400s", name, err, out)
		}
		if info, err := os.Stat(name); err != nil || info.Size() > 1100*1000 || info.Sys().(*syscall.Stat_t).Mode&0o077 != 0 {
			t.Errorf("%v, %v", info, err)
		}
	}
}
