package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/e2e/walkthrough"
	"github.com/fairlead/fairlead/internal/lab"
)

// TestWalkthroughs: each walkthrough of docs/walkthroughs is walked, command by command,
// and what is printed is what stands there. With -update it is written there.
func TestWalkthroughs(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../docs/walkthroughs/[0-9]*.md")
	if err != nil || len(paths) < 5 {
		t.Fatalf("walkthroughs: %q, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".md"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			d, err := walkthrough.Parse(string(text))
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if *update { // also what there is of it, should it fail
				defer func() {
					if err := os.WriteFile(path, []byte(d.String()), 0o644); err != nil { //nolint:gosec // a document
						t.Error(err)
					}
				}()
			}
			newWalk(t, d).walk(path, d)
		})
	}
}

// internet4 and internet6 are of a machine far away, which outside leads to.
const (
	internet4, internet6 = "203.0.113.8", "2001:db8:113::8"
)

// walk is a walkthrough under way: machines with shells.
type walk struct {
	t        *testing.T
	names    *walkthrough.Names
	machines map[string]*machine
}

// machine is where commands are typed: a host, with a daemon or without.
type machine struct {
	site *site
	host *lab.Host
	// pid is of a process in the machine's mount namespace, root where that is seen.
	pid  int
	root string
	env  []string
	// jobs were started with & and not waited for.
	jobs []*job
}

// newWalk makes the machines that the prompts of a document speak of: "$" is the host,
// "outside$" another machine, and "docker2$" a second host with a daemon.
func newWalk(t *testing.T, d *walkthrough.Document) *walk {
	t.Helper()
	w := &walk{t: t, names: walkthrough.NewNames(), machines: map[string]*machine{}}
	s := newHosts(t)
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{})
	s.outside.Run("ip", "addr", "add", internet4+"/32", "dev", "lo")
	s.outside.Run("ip", "addr", "add", internet6+"/128", "dev", "lo")
	s.outside.Listen("tcp", "0.0.0.0:7")
	s.outside.Listen("tcp", "[::]:7")
	serveNames(t, s.outside, internet4+":53", "example", internet4)
	s.host.Expect("table ip ", "table ip6 ", "bridge0") // of iptables, and made by hand
	s.host.DefaultRoute("uplink", outside4, outside6)
	w.add("", s, s.host)
	w.add("outside", s, s.outside)
	if slices.ContainsFunc(d.Steps(), func(s *walkthrough.Step) bool { return s.Prompt == "docker2$" }) {
		two := &site{t: t, lab: s.lab, host: s.lab.Host("docker2"), outside: s.outside}
		two.Daemon = s.lab.NewDaemon(two.host, lab.DaemonOptions{})
		s.lab.Link(two.host.Port("uplink", "198.51.100.1/24"), s.outside.Port("eth1", "198.51.100.2/24"))
		two.host.DefaultRoute("uplink", "198.51.100.2")
		s.outside.Router()
		w.add("docker2", two, two.host)
	}
	if name, err := os.Hostname(); err == nil {
		w.names.Always(`(?m)^host `+regexp.QuoteMeta(name)+`$`, "host demo-host")
	}
	return w
}

// add makes a machine: with files under /run, /tmp and /etc of its own, where the paths
// of a daemon are those that it has by default.
func (w *walk) add(name string, s *site, h *lab.Host) {
	w.t.Helper()
	// Whether frames pass iptables is the machine's matter (module br_netfilter).
	h.Try("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do echo 0 >$f; done")
	p := h.Start("unshare", "--mount", "sh", "-ec", `
		mount -t tmpfs tmpfs /tmp
		mkdir -p /tmp/etc/upper /tmp/etc/work
		mount -t overlay -o lowerdir=/etc,upperdir=/tmp/etc/upper,workdir=/tmp/etc/work overlay /etc
		mkdir -p /etc/fairlead
		echo nameserver `+internet4+` > /etc/resolv.conf
		mount -t tmpfs tmpfs /run
		mkdir /run/netns /run/ready
		exec sleep 3600`)
	m := &machine{site: s, host: h, pid: p.Pid, root: fmt.Sprintf("/proc/%d/root", p.Pid)}
	eventually(w.t, "a machine's own files", func() bool { _, err := os.Stat(m.root + "/run/ready"); return err == nil })
	// The lab's own files are seen through the test's root.
	seen := fmt.Sprintf("/proc/%d/root", os.Getpid())
	if err := errors.Join(os.Mkdir(m.root+"/run/bin", 0o755), os.Symlink(seen+lab.Binary(w.t), m.root+"/run/bin/fairlead")); err != nil {
		w.t.Fatal(err)
	}
	m.env = []string{"PATH=/run/bin:" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "DOCKER_CONFIG=" + s.lab.Dir("docker"), "DOCKER_HOST=unix:///run/fairlead/fairlead.sock", "FAIRLEAD_HOST="}
	if h == s.host {
		// By its true path, too: that is what a command has that was printed to be run.
		dir := m.root + filepath.Dir(s.ExecRoot)
		if err := errors.Join(os.Symlink(seen+s.ExecRoot, m.root+"/run/fairlead"), os.MkdirAll(dir, 0o755), os.Symlink(seen+s.ExecRoot, filepath.Join(dir, filepath.Base(s.ExecRoot)))); err != nil { //nolint:gosec // read by all
			w.t.Fatal(err)
		}
		w.names.Always(regexp.QuoteMeta(s.ExecRoot), "/run/fairlead")
		w.names.Always(regexp.QuoteMeta(s.DataRoot), "/var/lib/fairlead")
		if err := os.WriteFile(m.root+"/tmp/rootfs.tar", rootfs(), 0o644); err != nil { //nolint:gosec // read by all
			w.t.Fatal(err)
		}
	}
	w.machines[name] = m
}

// walk does the steps, and puts what they print into the document where it is to be
// updated; else it fails the test where they print another.
func (w *walk) walk(path string, d *walkthrough.Document) {
	w.t.Helper()
	for _, step := range d.Steps() {
		printed, code := w.step(step)
		// A machine that throws away much tells of more than is read in time: who says
		// that something was missed is asked again, and at last believed to have seen all.
		for tries := 0; tries < 5 && missed.MatchString(printed); tries++ {
			printed, code = w.step(step)
		}
		printed = missed.ReplaceAllString(printed, "")
		if step.Hidden {
			if code != 0 {
				w.t.Fatalf("%s:%d: %s: exit status %d\n%s", path, step.Line, step.Command, code, printed)
			}
			continue
		}
		got := w.names.Hide(printed)
		if code != 0 {
			got += fmt.Sprintf("(exit status %d)\n", code)
		}
		switch bad := walkthrough.Ambiguous(got); {
		case bad != "":
			w.t.Errorf("%s:%d: %s: cannot be shown, it prints %q", path, step.Line, step.Command, bad)
		case *update:
			step.Output = got
		case got != step.Output:
			w.t.Errorf("%s:%d: %s %s: prints (+) what is not there (-); if it should be, run make walkthroughs:\n%s",
				path, step.Line, step.Prompt, step.Command, cmp.Diff(strings.Split(step.Output, "\n"), strings.Split(got, "\n")))
		}
	}
}

// missed is how a command says that it did not see all that was to be seen.
var missed = regexp.MustCompile(`(?mi)^ *not watched: \d+ packets that the kernel threw away.*\n`)

// step does one, and returns what it printed and its exit status.
func (w *walk) step(step *walkthrough.Step) (printed string, code int) {
	w.t.Helper()
	command := w.names.Show(step.Command)
	where, container := strings.CutSuffix(step.Prompt, "#")
	m := w.machines[strings.TrimSuffix(step.Prompt, "$")]
	if container {
		m = w.machines[""]
		command = "fairlead exec -t " + where + " sh -c '" + strings.ReplaceAll(command, "'", `'\''`) + "'"
	}
	if m == nil {
		w.t.Fatalf("line %d: there is no machine %s", step.Line, step.Prompt)
	}
	if step.Until {
		eventually(w.t, command, func() bool { printed, code = m.shell(command); return code == 0 })
		return printed, code
	}
	args, daemon := strings.CutPrefix(command, "fairlead daemon")
	args, background := strings.CutSuffix(args, "&")
	switch {
	case daemon && background:
		return m.startDaemon(strings.Fields(args))
	case command == "kill %1":
		m.site.Stop()
		return "", 0
	case command == "fairlead system teardown":
		if printed, code = m.shell(command); code == 0 {
			m.site.Wait() // it ends a moment after it has answered
		}
		return printed, code
	case command == "fg":
		return m.foreground()
	case strings.HasSuffix(command, "&"):
		return m.background(strings.TrimSuffix(command, "&"))
	}
	return m.shell(command)
}

// prepare is a command of the machine's shell.
func (m *machine) prepare(ctx context.Context, command string) *exec.Cmd {
	cmd := m.host.Command(ctx, "nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", m.pid), "sh", "-c", `cd /tmp && eval "$1"`, "sh", command)
	cmd.Env = append(cmd.Env, m.env...)
	return cmd
}

// shell runs a command and returns what it printed on both its outputs.
func (m *machine) shell(command string) (printed string, code int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := m.prepare(ctx, command)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); cmd.ProcessState == nil || ctx.Err() != nil {
		return out.String() + fmt.Sprintln(err), -1
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// startDaemon starts the machine's daemon, with its /etc.
func (m *machine) startDaemon(args []string) (printed string, code int) {
	args = append(args, "--resolv-conf", m.root+"/etc/resolv.conf")
	if file := m.root + "/etc/fairlead/daemon.json"; !slices.Contains(args, "--config-file") {
		if _, err := os.Stat(file); err == nil {
			args = append(args, "--config-file", file)
		}
	}
	m.site.SetArgs(args...)
	if err := m.site.TryStart(); err != nil {
		return m.site.LogTail(5) + err.Error() + "\n", 1
	}
	return "", 0
}

// job is a command in the background.
type job struct {
	cmd *exec.Cmd
	// ended is closed when all it printed is in out.
	ended chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
	// first is closed when it has printed something.
	first chan struct{}
}

// Write keeps what it prints.
func (j *job) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.out.Len() == 0 && len(b) > 0 {
		close(j.first)
	}
	return j.out.Write(b)
}

// take is what it printed since it was last asked.
func (j *job) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	b, _ := io.ReadAll(&j.out)
	if j.out.Len() == 0 {
		j.first = make(chan struct{})
	}
	return string(b)
}

// background starts a command and waits for its first words, by which it says that it
// is ready.
func (m *machine) background(command string) (printed string, code int) {
	j := &job{cmd: m.prepare(context.Background(), command), ended: make(chan struct{}), first: make(chan struct{})}
	j.cmd.Stdout, j.cmd.Stderr = j, j
	first := j.first
	if err := j.cmd.Start(); err != nil {
		return err.Error() + "\n", -1
	}
	m.site.t.Cleanup(func() { _ = j.cmd.Process.Kill(); <-j.ended })
	go func() { _ = j.cmd.Wait(); close(j.ended) }()
	m.jobs = append(m.jobs, j)
	select {
	case <-first:
	case <-j.ended:
	case <-time.After(10 * time.Second):
		return "(not a word in ten seconds)\n", -1
	}
	return j.take(), 0
}

// foreground waits for the last command that was started in the background.
func (m *machine) foreground() (printed string, code int) {
	if len(m.jobs) == 0 {
		return "fg: no current job\n", 1
	}
	j := m.jobs[len(m.jobs)-1]
	m.jobs = m.jobs[:len(m.jobs)-1]
	select {
	case <-j.ended:
	case <-time.After(20 * time.Second):
		_ = j.cmd.Process.Kill()
		return j.take() + "(did not end in 20 seconds)\n", -1
	}
	return j.take(), j.cmd.ProcessState.ExitCode()
}
