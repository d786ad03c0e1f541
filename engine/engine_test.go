package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/streams"
)

// host is one machine's worth of what an Engine stands on: a containerd and a
// streams process of our own, shared by all tests, each with its own namespace
// and roots.
var host struct {
	dir     string
	address string
	image   []byte
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == streams.Name {
		cmd := streams.Command()
		cmd.SetArgs(os.Args[2:])
		if err := cmd.ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) (code int) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests run containers and need root")
		return 1
	}
	dir, err := os.MkdirTemp("", "fl-engine-")
	if err != nil {
		panic(err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	ctx := context.Background()
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	ctr, err := runtime.Start(ctx, runtime.Config{DataRoot: filepath.Join(dir, "d"), ExecRoot: dir, Logger: quiet, Child: true})
	if err != nil {
		panic(err)
	}
	defer func() {
		if err := errors.Join(ctr.RemoveCgroups(), ctr.Stop(ctx)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if left := leftBehind(dir); left != "" {
			fmt.Fprintln(os.Stderr, "left behind:\n"+left)
			code = 1
		}
	}()
	host.dir, host.address, host.image = dir, ctr.Address(), busyboxRoot()
	leaks := goleak.IgnoreCurrent()
	if code = m.Run(); code == 0 {
		if err := goleak.Find(leaks); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// leftBehind lists processes and mounts that have to do with dir.
func leftBehind(dir string) string {
	var out []string
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			out = append(out, line)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		raw, _ := os.ReadFile(p)
		if bytes.Contains(raw, []byte(dir)) {
			out = append(out, p+" "+strings.ReplaceAll(string(raw), "\x00", " ")+"\n")
		}
	}
	return strings.Join(out, "")
}

// busyboxRoot is a root file system of the machine's static busybox.
func busyboxRoot() []byte {
	binary, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		panic(err)
	}
	applets, err := exec.Command("/usr/bin/busybox", "--list").Output()
	if err != nil {
		panic(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		if _, err := w.Write(content); err != nil {
			panic(err)
		}
	}
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "usr"} {
		add(tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	add(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, binary)
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			add(tar.Header{Name: "bin/" + a, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
		}
	}
	add(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1001::/home:/bin/sh\n"))
	add(tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:\ncrew:x:1001:\ndeck:x:1002:sailor\n"))
	add(tar.Header{Name: "etc/script", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("not to be run\n"))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}
