package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// newDockerd makes a site whose daemon is called dockerd.
func newDockerd(t *testing.T, args ...string) *site {
	t.Helper()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: args, Dockerd: true})
	s.importImage("demo")
	return s
}

// TestDockerd: in dockerd's place, with the flags that units and test harnesses give
// it, the daemon is to Docker's client what dockerd is.
func TestDockerd(t *testing.T) {
	t.Parallel()
	second := filepath.Join(t.TempDir(), "docker.sock")
	s := newDockerd(t, "--containerd-plugins-namespace", "plugins.x", "--storage-driver", "overlay2", "--userland-proxy-path", "/usr/bin/docker-proxy",
		"--debug", "--label", "rack=7", "--shutdown-timeout", "3", "--registry-mirror", "https://mirror.invalid", "--insecure-registry", "10.1.0.0/16",
		"--default-network-opt", "bridge=com.docker.network.driver.mtu=1400", "--ipv6", "--fixed-cidr-v6", "fd00:7::/64", "--ip6tables",
		"--log-driver", "json-file", "--log-opt", "max-size=1m", "--selinux-enabled=false", "--signature-verification=false",
		"--default-ulimit", "nofile=512:1024", "--default-shm-size", "32m", "--init=false", "--host", "unix://"+second)
	if got := s.mustDocker("info", "-f", "{{.Labels}} {{.LiveRestoreEnabled}} {{.Debug}} {{.LoggingDriver}} {{.RegistryConfig.Mirrors}} {{.Swarm.LocalNodeState}}"); got != "[rack=7] false true json-file [https://mirror.invalid] inactive" {
		t.Errorf("docker info: %s", got)
	}
	if out, err := exec.CommandContext(t.Context(), dockerClient, "-H", "unix://"+second, "version").CombinedOutput(); err != nil {
		t.Errorf("by the second socket: %s", out)
	}
	contains(t, "the log", s.LogTail(1000), `settings="containerd-plugins-namespace, userland-proxy-path, signature-verification"`)
	if got := s.mustDocker("network", "inspect", "-f", `{{index .Options "com.docker.network.bridge.name"}}`, "bridge"); got != "docker0" {
		t.Errorf("the default network's bridge: %q", got)
	}
	if got := s.mustDocker("run", "--rm", "demo", "sh", "-c", "ulimit -n; df -m /dev/shm | tail -1"); !strings.HasPrefix(got, "512\n") || !strings.Contains(got, " 32 ") {
		t.Errorf("what a container gets by default: %q", got)
	}
	if got := s.mustDocker("run", "--rm", "--ulimit", "nofile=100", "--shm-size", "16m", "demo", "sh", "-c", "ulimit -n; df -m /dev/shm | tail -1"); !strings.HasPrefix(got, "100\n") || !strings.Contains(got, " 16 ") {
		t.Errorf("what a container gets that asks: %q", got)
	}
	// Without --live-restore, containers end with the daemon; one that does not is killed
	// when its time is over.
	s.mustDocker("run", "-d", "--name", "kind", "demo", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
	s.mustDocker("run", "-d", "--name", "deaf", "--stop-timeout", "1", "demo", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
	began := time.Now()
	s.Stop()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the daemon's stop took %s", took)
	}
	if _, err := os.Stat(filepath.Join(s.ExecRoot, "docker.pid")); !os.IsNotExist(err) {
		t.Errorf("the pidfile after it: %v", err)
	}
	s.Start()
	if got := s.mustDocker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "kind", "deaf"); got != "exited 3\nexited 137" {
		t.Errorf("afterwards: %q; deaf says %+v", got, s.docker(nil, "logs", "deaf"))
	}
	s.consistent()
}

// TestReload: SIGHUP has the daemon read its configuration again, and clients that
// listen are told.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	file := filepath.Join(s.lab.Dir("etc"), "daemon.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"labels": ["a=1"], "debug": false}`)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--config-file", file, "-H", "tcp://127.0.0.1:2375", "--tls=false"}, Dockerd: true})
	const told = "{{.Labels}} {{.Debug}} {{.LiveRestoreEnabled}} {{.RegistryConfig.Mirrors}}"
	if got := s.mustDocker("info", "-f", told); got != "[a=1] false false []" {
		t.Errorf("at first: %s", got)
	}
	l := s.events("--filter", "type=daemon", "--filter", "daemon="+s.mustDocker("info", "-f", "{{.ID}}"), "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.labels}} {{index .Actor.Attributes \"registry-mirrors\"}} {{index .Actor.Attributes \"live-restore\"}}")
	write(`{"labels": ["a=2", "b=3"], "debug": true, "live-restore": true, "registry-mirrors": ["https://m.invalid"], "mtu": 1400}`)
	s.Reload()
	l.hears(`daemon reload ["a=2","b=3"] ["https://m.invalid"] true`)
	if got := s.mustDocker("info", "-f", told); got != "[a=2 b=3] true true [https://m.invalid]" {
		t.Errorf("reloaded: %s", got)
	}
	contains(t, "the log", s.LogTail(1000), "take effect when the daemon starts again", "settings=mtu", "level=DEBUG")
	for _, bad := range []string{`{"labels": ["x"]}`, `{"nosuch": 1}`, `{`} {
		write(bad)
		s.Reload()
		eventually(t, "the daemon says what is wrong", func() bool {
			return strings.Count(s.LogTail(1000), "the configuration is not reloaded") > 0
		})
		if got := s.mustDocker("info", "-f", told); got != "[a=2 b=3] true true [https://m.invalid]" {
			t.Errorf("after %s: %s", bad, got)
		}
	}
	write(`{"live-restore": true}`)
	s.Reload()
	l.hears(`daemon reload [] [] true`)
	s.importImage("demo")
	// Plainly by TCP, where that was said: a stream is one too.
	plain := finish(s.host.Command(t.Context(), dockerClient, "-H", "tcp://127.0.0.1:2375", "run", "--rm", "-i", "demo", "cat"), []byte("to and fro\n"))
	if plain.Stdout != "to and fro\n" {
		t.Errorf("docker run -i by tcp://: %+v", plain)
	}
	s.signalled(t)
	s.mustDocker("run", "-d", "--name", "stays", "demo", "sleep", "3600")
	s.Stop()
	s.Start()
	if got := s.mustDocker("inspect", "-f", "{{.State.Status}}", "stays"); got != "running" {
		t.Errorf("with live-restore from a reload it is %s", got)
	}
	s.consistent()
}

// signalled has the daemon write the stacks of its goroutines, and go on.
func (s *site) signalled(t *testing.T) {
	t.Helper()
	if err := lab.Signal(s.PID(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stacks are written", func() bool {
		files, _ := filepath.Glob(filepath.Join(s.ExecRoot, "goroutine-stacks-*.log"))
		if len(files) != 1 {
			return false
		}
		raw, _ := os.ReadFile(files[0])
		return strings.Contains(string(raw), "daemon.(*daemon).serve")
	})
	s.mustDocker("version")
}

// TestDockerdOverTLS: Docker's client reaches the daemon with a certificate of the CA,
// also where a connection becomes a stream; who has none does not.
func TestDockerdOverTLS(t *testing.T) {
	t.Parallel()
	a := lab.NewAuthority(t)
	cert, key := a.Sign("server", host4, "127.0.0.1")
	s := newDockerd(t, "-H", "tcp://"+host4, "--tlsverify", "--tlscacert", a.Path("ca.pem"), "--tlscert", cert, "--tlskey", key)
	cert, key = a.Sign("client")
	secure := func(in []byte, host string, args ...string) lab.Result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return finish(s.outside.Command(ctx, dockerClient, append([]string{"--config", s.lab.Dir("docker"), "-H", "tcp://" + host + ":2376"}, args...)...), in)
	}
	with := []string{"--tlsverify", "--tlscacert", a.Path("ca.pem"), "--tlscert", cert, "--tlskey", key}
	if r := secure([]byte("to and fro\n"), host4, append(with, "run", "--rm", "-i", "demo", "sh", "-c", "cat; echo err >&2; exit 4")...); r.Stdout != "to and fro\n" || r.Stderr != "err\n" || r.Code != 4 {
		t.Errorf("docker run -i over TLS: %+v", r)
	}
	s.mustDocker("run", "-d", "--name", "web", "demo", "sh", "-c", "echo hello; sleep 3600")
	if r := secure([]byte("x"), host4, append(with, "exec", "-i", "web", "sh", "-c", "wc -c")...); strings.TrimSpace(r.Stdout) != "1" {
		t.Errorf("docker exec -i over TLS: %+v", r)
	}
	if r := secure(nil, host4, append(with, "logs", "web")...); r.Stdout != "hello\n" {
		t.Errorf("docker logs over TLS: %+v", r)
	}
	for what, args := range map[string][]string{
		"without TLS":           {"version"},
		"without a certificate": {"--tls", "version"},
		"with another CA's": func() []string {
			other := lab.NewAuthority(t)
			cert, key := other.Sign("client")
			return []string{"--tlsverify", "--tlscacert", a.Path("ca.pem"), "--tlscert", cert, "--tlskey", key, "version"}
		}(),
	} {
		if r := secure(nil, host4, args...); r.Code == 0 {
			t.Errorf("served %s: %s", what, r.Stdout)
		}
	}
	// Plainly over the network is refused before anything is made.
	if out, code := s.refusal("-H", "tcp://"+host4+":2375"); code != 1 || !strings.Contains(out, "whoever reaches it is root on this machine") {
		t.Errorf("tcp:// without TLS: %d, %s", code, out)
	}
	s.consistent()
}

// refusal starts a further dockerd, which is to end by itself.
func (s *site) refusal(args ...string) (out string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := s.lab.Dir("refused")
	cmd := s.host.Command(ctx, filepath.Join(s.DataRoot, "dockerd"), append([]string{"--data-root", dir, "--exec-root", dir, "--pidfile", dir + "/pid"}, args...)...)
	r := finish(cmd, nil)
	return r.Stderr, r.Code
}

// TestSocketActivation: the daemon serves the socket that systemd opened for it, and
// leaves it there when it ends.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	s := newDockerd(t)
	s.Stop()
	path := filepath.Join(t.TempDir(), "docker.sock")
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// As systemd does: the number of sockets, and whom they are for.
	line := fmt.Sprintf(`export LISTEN_FDS=1 LISTEN_PID=$$; exec %s --data-root %s --exec-root %s --pidfile %s/docker.pid --containerd %s --containerd-namespace %s -H fd://`,
		filepath.Join(s.DataRoot, "dockerd"), s.DataRoot, s.ExecRoot, s.ExecRoot, lab.Containerd(t), s.ContainerdNamespace())
	cmd := s.host.Command(context.Background(), "sh", "-c", line)
	cmd.ExtraFiles = []*os.File{f}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The client may come first: the socket has it wait.
	out, err := exec.CommandContext(ctx, dockerClient, "-H", "unix://"+path, "version", "--format", "{{json .Server}}").CombinedOutput()
	var server struct{ APIVersion string }
	if err != nil || json.Unmarshal(out, &server) != nil || server.APIVersion == "" {
		t.Errorf("docker version: %v\n%s", err, out)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("its end: %v\n%s", err, log.String())
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("systemd's socket afterwards: %v", err)
	}
	s.Start()
}
