package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// pair is a client's connection: ours to use, and the file that a server hands
// on.
func pair(t *testing.T) (*net.UnixConn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours := os.NewFile(uintptr(fds[0]), "client")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn), os.NewFile(uintptr(fds[1]), "server")
}

// demultiplex takes Docker's framing apart.
func demultiplex(t *testing.T, raw []byte) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	for len(raw) > 0 {
		if len(raw) < 8 {
			t.Fatalf("a torn header: %q", raw)
		}
		n := int(binary.BigEndian.Uint32(raw[4:8]))
		if len(raw) < 8+n {
			t.Fatalf("a torn frame: %q", raw)
		}
		to := &out
		if raw[0] == 2 {
			to = &errs
		}
		to.Write(raw[8 : 8+n])
		raw = raw[8+n:]
	}
	return out.String(), errs.String()
}

func TestAttachBeforeStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.Config.OpenStdin, r.Config.StdinOnce = true, true }, "sh", "-c", "cat; echo end >&2; exit 4")
	client, server := pair(t)
	f.ok(f.Attach(ctx, id, AttachOptions{Stdin: true, Stdout: true, Stderr: true, Stream: true, Preread: []byte("ear")}, server))
	server.Close()
	ended := must(f.Wait(ctx, id, container.WaitConditionNextExit))
	f.ok(f.Start(ctx, id))
	if _, err := client.Write([]byte("ly\nlate\n")); err != nil {
		t.Fatal(err)
	}
	f.ok(client.CloseWrite())
	raw, err := io.ReadAll(client)
	f.ok(err)
	out, errs := demultiplex(t, raw)
	if r := <-ended; r.StatusCode != 4 || out != "early\nlate\n" || errs != "end\n" {
		t.Fatalf("exit code %d, stdout %q, stderr %q", r.StatusCode, out, errs)
	}
	if log := f.output(id); !strings.Contains(log, "early\nlate\n") {
		t.Errorf("log %q", log)
	}
	f.clean()
}

func TestAttachWithLogsAndTerminal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) {
		r.Config.OpenStdin, r.Config.Tty = true, true
		r.HostConfig.ConsoleSize = [2]uint{30, 100}
	}, "sh", "-c", "stty size; echo $TERM; read x; echo got $x; stty size; read y")
	f.ok(f.Start(ctx, id))
	eventually(t, "it has written", func() bool { return strings.Contains(f.output(id), "xterm") })
	client, server := pair(t)
	f.ok(f.Resize(ctx, id, 40, 120))
	f.ok(f.Attach(ctx, id, AttachOptions{Stdin: true, Stdout: true, Stream: true, Logs: true}, server))
	server.Close()
	if tty := must(f.Terminal(id)); !tty {
		t.Error("no terminal")
	}
	if _, err := client.Write([]byte("word\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has answered", func() bool { return strings.Contains(f.output(id), "40 120") })
	if _, err := client.Write([]byte{16, 17}); err != nil { // ctrl-p ctrl-q
		t.Fatal(err)
	}
	raw, err := io.ReadAll(client)
	f.ok(err)
	if s := string(raw); !strings.HasPrefix(s, "30 100\r\nxterm\r\n") || !strings.Contains(s, "got word\r\n40 120\r\n") {
		t.Fatalf("%q", s)
	}
	if !f.state(id).Running {
		t.Error("detaching ended it")
	}
	if err := f.Attach(ctx, id, AttachOptions{DetachKeys: "nonsense"}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("detach keys: %v", err)
	}
}

func TestFollowedLogEndsWithTheContainer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done")
	f.ok(f.Start(t.Context(), id))
	var lines []string
	err := f.Logs(t.Context(), id, LogsOptions{Stdout: true, Follow: true, Tail: -1}, func(_ string, _ time.Time, line []byte) error {
		lines = append(lines, strings.TrimSpace(string(line)))
		return nil
	})
	f.ok(err)
	if !slices.Equal(lines, []string{"1", "2", "3", "4", "5"}) {
		t.Fatal(lines)
	}
	silent := f.create(func(r *CreateRequest) { r.HostConfig.LogConfig.Type = "none" }, "echo", "unheard")
	ended := must(f.Wait(t.Context(), silent, container.WaitConditionNextExit))
	f.ok(f.Start(t.Context(), silent))
	<-ended
	if err := f.Logs(t.Context(), silent, LogsOptions{Stdout: true}, nil); !errdefs.IsNotImplemented(err) {
		t.Errorf("a container without a log: %v", err)
	}
	if _, err := os.Stat(f.logPath(silent)); !os.IsNotExist(err) {
		t.Errorf("it has a log: %v", err)
	}
	if err := f.Logs(t.Context(), id, LogsOptions{}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no stream: %v", err)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.Config.Env = []string{"A=1"}; r.Config.User = "sailor" }, "sleep", "1000")
	req := container.ExecCreateRequest{Cmd: []string{"true"}}
	if _, err := f.ExecCreate(ctx, id, req); !errdefs.IsConflict(err) {
		t.Errorf("exec in a container that does not run: %v", err)
	}
	f.ok(f.Start(ctx, id))
	exec := func(req container.ExecCreateRequest, input string) (out, errs string, code int) {
		t.Helper()
		x := f.must(f.ExecCreate(ctx, id, req))
		client, server := pair(t)
		f.ok(f.ExecStart(ctx, x, ExecStartOptions{Tty: req.Tty}, server))
		server.Close()
		_, err := io.WriteString(client, input)
		f.ok(err)
		f.ok(client.CloseWrite())
		raw, err := io.ReadAll(client)
		f.ok(err)
		if req.Tty {
			out = string(raw)
		} else {
			out, errs = demultiplex(t, raw)
		}
		// As a client does: the code is asked for at the end of the output.
		r, err := f.ExecInspect(ctx, x)
		f.ok(err)
		if r.Running || r.ExitCode == nil {
			t.Fatalf("%+v", r)
		}
		return out, errs, *r.ExitCode
	}
	all := container.ExecCreateRequest{AttachStdout: true, AttachStderr: true}
	all.Cmd = []string{"sh", "-c", "echo out $A $B; id -un; pwd; echo err >&2; exit 9"}
	all.Env, all.WorkingDir = []string{"B=2"}, "/tmp"
	if out, errs, code := exec(all, ""); out != "out 1 2\nsailor\n/tmp\n" || errs != "err\n" || code != 9 {
		t.Errorf("%q %q %d", out, errs, code)
	}
	in := container.ExecCreateRequest{AttachStdin: true, AttachStdout: true, User: "root", Cmd: []string{"sh", "-c", "cat; id -u"}}
	if out, _, code := exec(in, "to be echoed\n"); out != "to be echoed\n0\n" || code != 0 {
		t.Errorf("%q %d", out, code)
	}
	tty := container.ExecCreateRequest{AttachStdout: true, Tty: true, ConsoleSize: &[2]uint{20, 50}, Cmd: []string{"sh", "-c", "stty size; echo $TERM"}}
	if out, _, code := exec(tty, ""); out != "20 50\r\nxterm\r\n" || code != 0 {
		t.Errorf("%q %d", out, code)
	}
	// How it is sent is decided at the start, as in Docker.
	x := f.must(f.ExecCreate(ctx, id, container.ExecCreateRequest{AttachStdout: true, Tty: true, Cmd: []string{"echo", "framed"}}))
	client, server := pair(t)
	f.ok(f.ExecStart(ctx, x, ExecStartOptions{}, server))
	server.Close()
	raw, err := io.ReadAll(client)
	f.ok(err)
	if out, _ := demultiplex(t, raw); out != "framed\r\n" {
		t.Errorf("%q", out)
	}
	for cmd, want := range map[string]int{"nonesuch": 127, "/etc/script": 126} {
		x := f.must(f.ExecCreate(ctx, id, container.ExecCreateRequest{AttachStdout: true, Cmd: []string{cmd}}))
		_, server := pair(t)
		err := f.ExecStart(ctx, x, ExecStartOptions{}, server)
		server.Close()
		var start *StartError
		if !errors.As(err, &start) || start.Code != want {
			t.Errorf("%s: %v", cmd, err)
		}
		if r := must(f.ExecInspect(ctx, x)); r.ExitCode == nil || *r.ExitCode != want {
			t.Errorf("%s: %+v", cmd, r)
		}
	}
	x = f.must(f.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"sh", "-c", "sleep 0.1; exit 3"}}))
	f.ok(f.ExecStart(ctx, x, ExecStartOptions{Detach: true}, nil))
	if err := f.ExecStart(ctx, x, ExecStartOptions{Detach: true}, nil); !errdefs.IsConflict(err) {
		t.Errorf("second start: %v", err)
	}
	eventually(t, "the detached one ended", func() bool {
		r := must(f.ExecInspect(ctx, x))
		return r.ExitCode != nil && *r.ExitCode == 3
	})
	if _, err := f.ExecInspect(ctx, "nonesuch"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	f.work.Wait()
	f.clean()
}
