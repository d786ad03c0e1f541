package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// packages makes the packages of the program and returns their paths by format.
func packages(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "make", "-C", "..", "--no-print-directory", "package", "PACKAGED="+lab.Binary(t), "DIST="+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("make package: %v\n%s", err, out)
	}
	if out, err := run(dir, "sha256sum", "-c", "SHA256SUMS"); err != nil {
		t.Errorf("checksums: %s", out)
	}
	found := make(map[string]string)
	for _, format := range []string{".deb", ".rpm", ".tar.gz"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*"+format))
		if len(files) != 1 {
			t.Fatalf("packages made: %s", out)
		}
		found[format] = files[0]
	}
	return found
}

func run(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// copyOfMachine is the machine's root file system with all changes kept apart: what
// is installed into it is not installed on the machine.
type copyOfMachine struct {
	t    *testing.T
	host *lab.Host
	// dir has root, the file system, and changed, what was changed in it. Both are
	// seen by processes of the mount namespace of pid alone.
	dir string
	pid int
}

func newCopy(t *testing.T, host *lab.Host) *copyOfMachine {
	t.Helper()
	m := &copyOfMachine{t: t, host: host, dir: t.TempDir()}
	// What an overlay has its changes on cannot be an overlay: containers' files are on
	// another tmpfs.
	cmd := host.Command(context.Background(), "unshare", "--mount", "--propagation", "private", "sh", "-ec", `cd "$0"
		mount -t tmpfs tmpfs "$0"; cd "$0"; mkdir changed work root
		mount -t overlay overlay -o lowerdir=/,upperdir=changed,workdir=work root
		for d in proc sys dev; do mount --rbind /$d root/$d; done
		mount -t tmpfs tmpfs root/run; mount -t tmpfs tmpfs root/tmp; mkdir -p root/run/systemd/journal
		for d in fairlead containerd; do mkdir -p root/var/lib/$d; mount -t tmpfs tmpfs root/var/lib/$d; done
		echo ready; exec sleep infinity`, m.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var says bytes.Buffer
	cmd.Stderr = &says
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("no copy of the machine: %s", says.String())
	}
	m.pid = cmd.Process.Pid
	return m
}

// path is a file of the copy as the test sees it.
func (m *copyOfMachine) path(name string) string {
	return fmt.Sprintf("/proc/%d/root%s/root%s", m.pid, m.dir, name)
}

// command prepares a shell's command line in the copy.
func (m *copyOfMachine) command(line string) *exec.Cmd {
	cmd := m.host.Command(context.Background(), "nsenter", "--mount", fmt.Sprintf("--target=%d", m.pid), "chroot", m.dir+"/root", "sh", "-ec", line)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// must runs it, and returns what it prints.
func (m *copyOfMachine) must(line string) string {
	m.t.Helper()
	r := finish(m.command(line), nil)
	if r.Code != 0 {
		m.t.Fatalf("%s: exit status %d\n%s%s", line, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// changes lists what is not as it was, but for dpkg's own notes.
func (m *copyOfMachine) changes() (out []string) {
	m.t.Helper()
	r := finish(m.host.Command(context.Background(), "nsenter", "--mount", fmt.Sprintf("--target=%d", m.pid), "find", m.dir+"/changed", "!", "-type", "d", "-printf", "/%P\n"), nil)
	for line := range strings.Lines(r.Stdout) {
		line = strings.TrimSpace(line)
		if !regexp.MustCompile(`^/(var/lib/dpkg/|var/log/|var/cache/|etc/\.pwd\.lock)`).MatchString(line) {
			out = append(out, line)
		}
	}
	return out
}

// TestA17Package: the packages are made, and have in them what they should.
func TestA17Package(t *testing.T) {
	t.Parallel()
	made := packages(t)
	t.Run("deb", func(t *testing.T) { installed(t, made[".deb"]) })
	t.Run("rpm", func(t *testing.T) { forFedora(t, made[".rpm"]) })
	t.Run("archive", func(t *testing.T) {
		out, err := exec.Command("tar", "-tzf", made[".tar.gz"]).Output()
		if err != nil {
			t.Fatal(err)
		}
		contains(t, "the archive", string(out), "/fairlead\n", "/man/fairlead-run.1.gz\n", "/completions/fairlead.bash\n", "/doc/copyright\n", "/fairlead.service\n")
	})
}

// installed is for the package for Debian: it is installed, its unit is one that
// systemd takes, its command line runs as it stands with the options of its
// environment file, and when it is purged nothing is left.
func installed(t *testing.T, deb string) {
	t.Helper()
	l := lab.New(t)
	host, outside := l.Host("host"), l.Host("outside")
	l.Link(host.Port("uplink", host4+"/24"), outside.Port("eth0", outside4+"/24"))
	host.Run("ip", "link", "add", "bridge0", "type", "bridge")
	host.Run("ip", "address", "add", "10.66.0.1/24", "dev", "bridge0")
	host.Run("ip", "link", "set", "bridge0", "up")
	kernel := func() string {
		return host.Run("sh", "-c", "ip -br link | awk '{ print $1 }'; ip -br address | awk '{ $2 = \"\" } 1'; nft list ruleset; sysctl net.ipv4.ip_forward")
	}
	before := kernel()
	m := newCopy(t, host)
	entries := m.journal()
	stopContainerd := m.start("exec containerd --log-level error")
	defer stopContainerd()
	eventually(t, "the machine's containerd answers", func() bool {
		return finish(m.command("ctr version"), nil).Code == 0
	})

	if out, err := exec.Command("cp", deb, m.path("/tmp/fairlead.deb")).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	m.must("dpkg --force-unsafe-io --no-triggers -i /tmp/fairlead.deb")
	if got := m.must("getent group fairlead; fairlead version --client; ls /usr/share/man/man1/fairlead-daemon.1.gz"); !strings.Contains(got, "fairlead:x:") || !strings.Contains(got, "/usr/share/man/man1/fairlead-daemon.1.gz") {
		t.Errorf("installed: %s", got)
	}
	const unit = "/usr/lib/systemd/system/fairlead.service"
	if r := finish(m.command("systemd-analyze verify "+unit), nil); r.Code != 0 || strings.Contains(r.Stderr, "fairlead.service") {
		t.Errorf("systemd-analyze verify: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
	m.must(`sed -i "s/^OPTIONS=.*/OPTIONS='--log-driver=journald -b=bridge0'/" /etc/default/fairlead`)
	stop := m.unit(unit)

	if out := finish(m.command("fairlead import - demo"), rootfs()); out.Code != 0 {
		t.Fatalf("import: %s", out.Stderr)
	}
	m.must("fairlead run -d --stop-timeout 1 --name web -p 8080:80 demo sh -c 'echo to the journal; exec httpd -f -h /www'")
	if got := m.must("fairlead inspect -f '{{.HostConfig.LogConfig.Type}} {{.NetworkSettings.Networks.bridge.Gateway}}' web"); got != "journald 10.66.0.1\n" {
		t.Errorf("the options had no effect: %s", got)
	}
	eventually(t, "outside gets the page", func() bool {
		return outside.Try("busybox", "wget", "-q", "-O-", "http://"+host4+":8080/").Stdout == page
	})
	eventually(t, "the journal gets the line", func() bool {
		return slices.ContainsFunc(entries(), func(e string) bool {
			return strings.Contains(e, "MESSAGE=to the journal") && strings.Contains(e, "CONTAINER_NAME=web")
		})
	})

	if got := m.must("ctr namespaces list -q"); !strings.Contains(got, "fairlead") {
		t.Errorf("the machine's containerd has the namespaces %q", got)
	}
	m.must("fairlead daemon --validate")
	// No systemd has started the daemon, nor can end it.
	m.must("dpkg --force-unsafe-io --no-triggers -r fairlead")
	stop()
	if got := m.must("ls -A /run/fairlead 2>/dev/null || echo none"); got != "none\n" {
		t.Errorf("EXEC_ROOT after the removal: %s", got)
	}
	if got := m.must("ls -A /var/lib/fairlead"); !strings.Contains(got, "fairlead.db") {
		t.Errorf("the data root after the removal: %s", got)
	}
	if now := kernel(); now != before {
		t.Errorf("the kernel after the removal\n%s\nbefore\n%s", now, before)
	}
	m.must("dpkg --force-unsafe-io --no-triggers -P fairlead")
	if got := m.must("ls -A /var/lib/fairlead; getent group fairlead || :; ls -d /etc/fairlead /etc/default/fairlead 2>/dev/null || :"); got != "" {
		t.Errorf("state after the purge: %s", got)
	}
	if got := m.must("ctr namespaces list -q; ctr -n fairlead snapshots list | tail -n +2; for what in images containers content leases; do ctr -n fairlead $what list -q; done"); got != "" {
		t.Errorf("left in containerd after the purge: %q", got)
	}
	for _, path := range m.changes() {
		// The group came and went.
		if !regexp.MustCompile(`^/etc/(group|gshadow)-?$`).MatchString(path) {
			t.Errorf("left after the purge: %s", path)
		}
	}
	if out, _ := exec.Command("pgrep", "-f", "fairlead (relay|streams|daemon) .*"+m.dir).Output(); len(out) > 0 {
		t.Errorf("processes are left: %s", out)
	}
}

// unit starts what the unit says, as it stands, and returns what stops it.
func (m *copyOfMachine) unit(path string) (stop func()) {
	m.t.Helper()
	text := m.must("cat " + path)
	setting := func(key string) (all []string) {
		for line := range strings.Lines(text) {
			if val, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
				all = append(all, val)
			}
		}
		return all
	}
	var line strings.Builder
	for _, file := range setting("EnvironmentFile") {
		file = strings.TrimPrefix(file, "-")
		fmt.Fprintf(&line, "[ ! -e %s ] || . %s\n", file, file)
	}
	fmt.Fprintf(&line, "exec %s", setting("ExecStart")[0])
	stop = m.start(line.String())
	eventually(m.t, "the daemon answers", func() bool { return finish(m.command("fairlead version"), nil).Code == 0 })
	return stop
}

// start runs a shell's command line, which is to replace the shell, until it is
// stopped.
func (m *copyOfMachine) start(line string) (stop func()) {
	m.t.Helper()
	cmd := m.command(line)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return func() {
		m.t.Helper()
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-ended:
			if err != nil {
				m.t.Errorf("%s: %v\n%s", line, err, log.String())
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			m.t.Errorf("%s does not end", line)
		}
	}
}

// journal listens where systemd's journal does, and returns what has been sent.
func (m *copyOfMachine) journal() (entries func() []string) {
	m.t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path("/run/systemd/journal/socket"), Net: "unixgram"})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = conn.Close() })
	sent := make(chan string, 1000)
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			sent <- string(buf[:n])
		}
	}()
	var all []string
	return func() []string {
		for {
			select {
			case e := <-sent:
				all = append(all, e)
			default:
				return all
			}
		}
	}
}
