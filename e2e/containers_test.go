package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestContainerLife: create, start, stop, start again, kill, wait, rename and rm,
// and what ps and inspect show at each.
func TestContainerLife(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	state := func(want string) {
		t.Helper()
		if got := s.inspect("job").State.Status; got != want {
			t.Errorf("status %q, want %q", got, want)
		}
	}
	id := s.Must("create", "--name", "job", "-p", "8080:80", "demo", "sh", "-c", `trap 'echo ending; exit 3' TERM; echo up; while :; do sleep 0.1; done`)
	state("created")
	if got := s.Must("ps", "-q"); got != "" {
		t.Errorf("ps shows %q, and nothing runs", got)
	}
	contains(t, "ps -a", s.Must("ps", "-a"), "job", "Created", id[:12])
	s.Must("start", "job")
	state("running")
	contains(t, "ps", s.Must("ps"), "job", "Up ", "0.0.0.0:8080->80/tcp")
	eventually(t, "it prints up", func() bool { return s.Must("logs", "job") == "up" })
	s.Must("stop", "job")
	state("exited")
	if got := s.inspect("job"); got.State.ExitCode != 3 || got.State.Pid != 0 {
		t.Errorf("state after stop: %+v", got.State)
	}
	if got := s.Must("logs", "job"); got != "up\nending" {
		t.Errorf("logs: %q", got)
	}
	contains(t, "ps -a", s.Must("ps", "-a"), "Exited (3)")
	if got := s.Must("wait", "job"); got != "3" {
		t.Errorf("wait: %q", got)
	}
	s.consistent()
	if got := s.Must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.Name}}", "job"); got != "exited 3 /job" {
		t.Errorf("inspect -f: %q", got)
	}
	s.Must("start", "job")
	s.Must("rename", "job", "work")
	s.Must("kill", "work")
	if got := s.Must("wait", "work"); got != "137" {
		t.Errorf("wait after kill: %q", got)
	}
	s.Must("start", id[:12])
	// Before that it has no handler, and a first process without one gets no signal.
	eventually(t, "it prints up again", func() bool { return strings.Count(s.Must("logs", "work"), "up\n")+1 >= 3 })
	s.Must("kill", "-s", "TERM", id[:12])
	if got := s.Must("wait", "work"); got != "3" {
		t.Errorf("wait after SIGTERM: %q", got)
	}
	s.Must("rm", "work")
	if _, stderr, code := s.CLI("inspect", id); code != 1 || !strings.Contains(stderr, id) {
		t.Errorf("inspect of what was removed: exit code %d, %s", code, stderr)
	}
	s.consistent()
}

// TestStopKills: one that does not heed the stop signal is killed when its time is
// up.
func TestStopKills(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("run", "-d", "--name", "deaf", "demo", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
	eventually(t, "it prints up", func() bool { return s.Must("logs", "deaf") == "up" })
	began := time.Now()
	s.Must("stop", "-t", "1", "deaf")
	if took := time.Since(began); took < time.Second || took > 8*time.Second {
		t.Errorf("it took %s, and had one second", took)
	}
	if got := s.inspect("deaf").State.ExitCode; got != 137 {
		t.Errorf("exit code %d", got)
	}
	s.Must("run", "-d", "--name", "other", "--stop-signal", "USR1", "demo", "sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.1; done")
	eventually(t, "it prints up", func() bool { return s.Must("logs", "other") == "up" })
	s.Must("stop", "other")
	if got := s.inspect("other").State.ExitCode; got != 9 {
		t.Errorf("exit code %d after the stop signal of its own", got)
	}
}

// TestRunFlags: the flags of run reach the container.
func TestRunFlags(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.importImage("talker", "ENV GREETING=hello NAME=world", "WORKDIR /www", `ENTRYPOINT ["echo","entry"]`, `CMD ["command"]`, "USER ann")
	for _, c := range []struct{ args, want string }{
		{"run --rm talker", "entry command"},
		{"run --rm talker other words", "entry other words"},
		{"run --rm --entrypoint pwd talker", "/www"},
		{"run --rm --entrypoint id talker -un", "ann"},
		{"run --rm --entrypoint sh talker -c 'echo $GREETING $NAME'", "hello world"},
		{"run --rm -e NAME=moon --entrypoint sh talker -c 'echo $GREETING $NAME'", "hello moon"},
		{"run --rm -e A=1 -e B= demo sh -c 'echo $A-$B-$HOME'", "1--/root"},
		{"run --rm -w /etc demo pwd", "/etc"},
		{"run --rm -w /made/new demo pwd", "/made/new"},
		{"run --rm -u ann demo id", "uid=1000(ann) gid=1001(staff) groups=1001(staff),1002(crew)"},
		{"run --rm -u 1000:1002 demo id -g", "1002"},
		{"run --rm -u 4711 demo id -u", "4711"},
		{"run --rm -h box demo hostname", "box"},
		{"run --rm --sysctl net.ipv4.ip_unprivileged_port_start=1 demo cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "1"},
		{"run --rm --network none demo cat /sys/class/net/lo/operstate", "unknown"},
	} {
		stdout, stderr, code := s.CLI(words(c.args)...)
		if strings.TrimSpace(stdout) != c.want || code != 0 {
			t.Errorf("%s: %q, want %q (exit code %d, %s)", c.args, stdout, c.want, code, stderr)
		}
	}
	if got := s.Must("ps", "-aq"); got != "" {
		t.Errorf("--rm left %q", got)
	}
	s.consistent()
}

// words splits a command line; what is in ” is one word.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

// TestExitCodes are Docker's: 125 the daemon refused, 126 it cannot be run, 127 it
// is not there, 128 and the signal, or the command's own.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	box := s.idle("--name", "box")
	for _, c := range []struct {
		args string
		want int
	}{
		{"run --rm demo true", 0},
		{"run --rm demo sh -c 'exit 7'", 7},
		{"run --rm nosuch true", 125},
		{"run --rm demo /etc/noexec", 126},
		{"run --rm demo /etc", 126},
		{"run --rm demo nosuch", 127},
		{"run --rm demo /nosuch", 127},
		{"run -d demo nosuch", 127},
		{"exec box true", 0},
		{"exec box sh -c 'exit 7'", 7},
		{"exec box sh -c 'kill -9 $$'", 137},
		{"exec box /etc/noexec", 126},
		{"exec box nosuch", 127},
		{"exec nosuch true", 1},
	} {
		if stdout, stderr, code := s.CLI(words(c.args)...); code != c.want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", c.args, code, c.want, stdout, stderr)
		}
	}
	if got := s.Must("ps", "-aq", "--no-trunc"); got != box.id {
		t.Errorf("left: %q", got)
	}
	s.consistent()
}

// TestForeground: output and errors come apart, input goes in, and a signal to the
// command line ends the container.
func TestForeground(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stdout, stderr, code := s.CLI("run", "--rm", "demo", "sh", "-c", "echo out; echo err >&2; exit 5")
	if stdout != "out\n" || stderr != "err\n" || code != 5 {
		t.Errorf("%q, %q, exit code %d", stdout, stderr, code)
	}
	big := strings.Repeat("0123456789abcdef\n", 60000)
	if r := s.input([]byte(big), "run", "--rm", "-i", "demo", "cat"); r.Stdout != big || r.Code != 0 {
		t.Errorf("%d bytes went in and %d came out, exit code %d %s", len(big), len(r.Stdout), r.Code, r.Stderr)
	}
	box := s.idle()
	if r := s.input([]byte(big), "exec", "-i", box.id, "wc", "-c"); strings.TrimSpace(r.Stdout) != itoa(len(big)) {
		t.Errorf("exec counted %s of %d bytes", r.Stdout, len(big))
	}
	stdout, stderr, code = s.CLI("exec", "-e", "A=b", "-w", "/etc", "-u", "ann", box.id, "sh", "-c", "echo $A $(pwd) $(id -un); echo err >&2; exit 6")
	if stdout != "b /etc ann\n" || stderr != "err\n" || code != 6 {
		t.Errorf("exec: %q, %q, exit code %d", stdout, stderr, code)
	}
	s.consistent()
}

// TestLogs: logs prints what the container printed, each stream to its own; -f goes
// on until the container ends; --tail and -t choose and date.
func TestLogs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("run", "-d", "--name", "talk", "demo", "sh", "-c", "echo one; echo two >&2; sleep 1; echo three; sleep 1; echo four")
	began := time.Now()
	stdout, stderr, code := s.CLI("logs", "-f", "talk")
	if stdout != "one\nthree\nfour\n" || stderr != "two\n" || code != 0 {
		t.Errorf("logs -f: %q, %q, exit code %d", stdout, stderr, code)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("logs -f ended after %s, the container after two seconds", took)
	}
	if got := s.Must("logs", "--tail", "2", "talk"); got != "three\nfour" {
		t.Errorf("logs --tail 2: %q", got)
	}
	if got := s.Must("logs", "-t", "--tail", "1", "talk"); !strings.HasSuffix(got, "Z four") || len(got) < 30 {
		t.Errorf("logs -t: %q", got)
	}
	s.consistent()
}

// TestContainerFiles: /etc/hosts, /etc/hostname and /etc/resolv.conf are as Docker
// makes them.
func TestContainerFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	b := s.idle()
	hosts := s.Must("exec", b.id, "cat", "/etc/hosts")
	contains(t, "/etc/hosts", hosts, "127.0.0.1\tlocalhost\n", "::1\tlocalhost", "172.17.0.2\t"+b.id[:12])
	if got := s.Must("exec", b.id, "cat", "/etc/hostname"); got != b.id[:12] {
		t.Errorf("/etc/hostname is %q", got)
	}
	if got := s.Must("exec", b.id, "hostname"); got != b.id[:12] {
		t.Errorf("hostname is %q", got)
	}
	resolv := s.Must("exec", b.id, "cat", "/etc/resolv.conf")
	contains(t, "/etc/resolv.conf", resolv, "nameserver ")
	if strings.Contains(resolv, "nameserver 127.") {
		t.Errorf("a resolver on the host's loopback is none of the container's:\n%s", resolv)
	}
	got := s.Must("run", "--rm", "-h", "box", "--domainname", "example.org", "--add-host", "db:10.9.8.7", "--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:2",
		"demo", "cat", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
	contains(t, "files", got, "10.9.8.7\tdb", "172.17.0.3\tbox.example.org box", "\nbox\n", "nameserver 192.0.2.53", "search example.org", "options ndots:2")
	got = s.Must("run", "--rm", "--network", "dual", "-h", "two", "demo", "cat", "/etc/hosts")
	contains(t, "/etc/hosts", got, "10.30.0.2\ttwo", "fd00:30::2\ttwo")
	// They are the container's to write, and stay written.
	s.Must("exec", b.id, "sh", "-c", "echo 10.1.1.1 mine >>/etc/hosts")
	contains(t, "/etc/hosts", s.Must("exec", b.id, "cat", "/etc/hosts"), "10.1.1.1 mine")
	if got := s.Must("exec", b.id, "ping", "-c1", "-W2", b.id[:12]); !strings.Contains(got, "172.17.0.2") {
		t.Errorf("ping of its own name: %s", got)
	}
	// On the host's network they are the host's.
	if got := s.Must("run", "--rm", "--net", "host", "demo", "hostname"); got != s.host.Run("hostname") {
		t.Errorf("hostname on the host's network: %q", got)
	}
}

// TestManyAtOnce: containers started and removed at once each get an address and a
// port of their own, and leave nothing.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const n = 12
	type answer struct {
		text string
		code int
	}
	answers := make(chan answer, n)
	for range n {
		go func() {
			stdout, stderr, code := s.CLI("run", "--rm", "-p", "80", "demo", "sh", "-c", "ip -4 -o addr show dev eth0 | awk '{print $4}'; sleep 1")
			answers <- answer{strings.TrimSpace(stdout + stderr), code}
		}()
	}
	seen := map[string]bool{}
	for range n {
		a := <-answers
		if a.code != 0 || seen[a.text] || !strings.HasPrefix(a.text, "172.17.0.") {
			t.Errorf("exit code %d, address %q", a.code, a.text)
		}
		seen[a.text] = true
	}
	if got := s.Must("ps", "-aq"); got != "" {
		t.Errorf("left: %s", got)
	}
	if got := s.ports("fairlead0"); len(got) != 0 {
		t.Errorf("ports left: %q", got)
	}
	s.consistent()
}
