package streams

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/streams/jsonlog"
)

// The test binary is the process too: Ensure starts it again with this variable,
// whose value is the build it says it is of.
const envServe = "FAIRLEAD_TEST_STREAMS"

// testStall is short, so that a test can see it pass, and slowStall what a client that is
// slow keeps to on a machine that has little time for it.
const testStall, slowStall = time.Second, 4 * time.Second

func TestMain(m *testing.M) {
	var err error
	switch build := os.Getenv(envServe); build {
	case "":
		goleak.VerifyTestMain(m)
	case "broken":
		os.Exit(1)
	case "command":
		cmd := Command()
		cmd.SetArgs(os.Args[2:])
		err = cmd.Execute()
	default:
		stall := map[string]time.Duration{"slow-stall": slowStall}[build]
		err = Serve(context.Background(), ServeOptions{ExecRoot: os.Args[3], Build: build, Stall: cmp.Or(stall, testStall), Journal: os.Args[3] + "/journal"})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// environ makes the test binary a streams process, which under the race detector
// would otherwise sleep for a second before it exits.
func environ(build string) []string {
	return []string{envServe + "=" + build, "GORACE=atexit_sleep_ms=0"}
}

// ensure starts or finds the process of root, and stops it at the test's end.
func ensure(t *testing.T, root, build string) *Client {
	t.Helper()
	o := Options{ExecRoot: root, Env: environ(build), Logger: slog.New(slog.DiscardHandler)}
	if build != "command" {
		o.Build = build
	}
	c, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
		_ = c.Disconnect()
		log, _ := os.ReadFile(root + "/streams.log")
		if strings.Contains(string(log), "panic") || strings.Contains(string(log), "DATA RACE") {
			t.Error("the process broke")
		}
		if t.Failed() {
			t.Logf("log of the process:\n%s", log)
		}
	})
	return c
}

// container stands for a container and its shim: it holds both ends of its
// output FIFOs, as containerd's shim does, so that a dead reader does no harm.
type container struct {
	t      *testing.T
	spec   Spec
	stdout *os.File
	stderr *os.File
	ends   []*os.File
}

// newContainer makes the FIFOs and the Spec; connect opens the shim's ends.
func newContainer(t *testing.T, id string) *container {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &container{t: t, spec: Spec{
		ID: id, Stdin: dir + "/stdin", Stdout: dir + "/stdout", Stderr: dir + "/stderr", Log: dir + "/json.log",
	}}
}

func (c *container) connect() {
	c.t.Helper()
	c.stdout, c.stderr = c.open(c.spec.Stdout), c.open(c.spec.Stderr)
	c.t.Cleanup(c.exit)
}

func (c *container) open(path string) *os.File {
	c.t.Helper()
	// Opened for both first, so that neither open waits for the other side.
	both, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer both.Close()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	c.ends = append(c.ends, w, r)
	return w
}

// exit closes the shim's ends.
func (c *container) exit() {
	for _, f := range c.ends {
		_ = f.Close()
	}
}

// log is what the log has of a stream.
func (c *container) log(stream string) string {
	c.t.Helper()
	var b strings.Builder
	err := jsonlog.Read(context.Background(), c.spec.Log, jsonlog.Options{Tail: -1, Stdout: true, Stderr: true}, func(s string, _ time.Time, line []byte) error {
		if s == stream {
			b.Write(line)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return b.String()
}

// attach gives one end of a new connection to the process.
func attach(t *testing.T, c *Client, spec AttachSpec) *net.UnixConn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	defer ours.Close()
	if err := c.Attach(t.Context(), spec, theirs); err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn)
}

// demultiplex reads frames to the end of the connection.
func demultiplex(t *testing.T, r io.Reader) (stdout, stderr string) {
	t.Helper()
	var out [3]bytes.Buffer
	for {
		var h [8]byte
		if _, err := io.ReadFull(r, h[:]); errors.Is(err, io.EOF) {
			return out[1].String(), out[2].String()
		} else if err != nil {
			t.Fatal(err)
		}
		if h[0] != 1 && h[0] != 2 || h[1]|h[2]|h[3] != 0 {
			t.Fatalf("header % x", h)
		}
		if _, err := io.CopyN(&out[h[0]], r, int64(binary.BigEndian.Uint32(h[4:]))); err != nil {
			t.Fatal(err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// killProcess ends the process as a crash would.
func killProcess(c *Client) error {
	err := lab.Signal(c.PID(), syscall.SIGKILL)
	<-c.Done()
	return err
}

func drained(t *testing.T, c *Client, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, c.Drained(ctx, id))
}
