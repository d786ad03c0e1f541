package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/streams/jsonlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// programs puts a journalctl before the others: a script that prints the files
// named entries (and follow, for --follow, whereupon it stays) and notes its
// arguments.
func programs(t *testing.T, entries, follow string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "entries"), []byte(entries), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "follow"), []byte(follow), 0o600))
	script := `#!/bin/sh
echo "$*" >>` + dir + `/calls
case "$*" in
*--sync*) ;;
*--follow*) cat ` + dir + `/follow; exec sleep 1000 ;;
*) cat ` + dir + `/entries ;;
esac
`
	must(t, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

// exported is an entry as journalctl prints it.
func exported(n int, message, stream, more string) string {
	number := priorityStdout
	if stream == jsonlog.Stderr {
		number = priorityStderr
	}
	return fmt.Sprintf("__CURSOR=c%d\n__REALTIME_TIMESTAMP=1767323045000000\n_PID=1\nPRIORITY=%s\nSYSLOG_TIMESTAMP=2026-01-02T03:04:%02d.5Z\nCONTAINER_NAME=web\n%s%s\n",
		n, number, n, more, string(appendField(nil, "MESSAGE", []byte(message))))
}

func read(t *testing.T, o jsonlog.Options) []string {
	t.Helper()
	var out []string
	must(t, Read(t.Context(), "abc", o, func(stream string, _ time.Time, line []byte) error {
		out = append(out, stream+" "+string(line))
		return nil
	}))
	return out
}

func TestRead(t *testing.T) {
	dir := programs(t, exported(1, "one", jsonlog.Stdout, "ROLE=front\n")+exported(2, "two", jsonlog.Stderr, "")+
		exported(3, "long\nand", jsonlog.Stdout, "CONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_PARTIAL_ID=x\n")+
		exported(4, " on", jsonlog.Stdout, "CONTAINER_PARTIAL_ID=x\nCONTAINER_PARTIAL_LAST=true\n"), "")
	all := jsonlog.Options{Tail: -1, Stdout: true, Stderr: true}
	if got := read(t, all); !slices.Equal(got, []string{"stdout one\n", "stderr two\n", "stdout long\nand", "stdout  on\n"}) {
		t.Errorf("%q", got)
	}
	some := all
	some.Tail, some.Stderr, some.Timestamps, some.Details = 3, false, true, true
	some.Since, some.Until = time.Unix(1767323040, 0), time.Date(2026, 1, 2, 3, 4, 3, 9e8, time.UTC)
	if got := read(t, some); !slices.Equal(got, []string{"stdout 2026-01-02T03:04:01.500000000Z ROLE=front one\n", "stdout 2026-01-02T03:04:03.500000000Z  long\nand"}) {
		t.Errorf("%q", got)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	must(t, err)
	for _, want := range []string{"CONTAINER_ID_FULL=abc", "--lines=all", "--lines=3", "--since=@1767323040.000000", "--output=export", "--sync"} {
		if !strings.Contains(string(calls), want) {
			t.Errorf("%s is not in\n%s", want, calls)
		}
	}
}

// A follower has what comes, and when the container has ended what comes after
// the last entry that it had.
func TestFollow(t *testing.T) {
	dir := programs(t, exported(2, "last", jsonlog.Stdout, ""), exported(1, "one", jsonlog.Stdout, ""))
	stop := make(chan struct{})
	got := make(chan string, 10)
	ended := make(chan error, 1)
	o := jsonlog.Options{Tail: -1, Stdout: true, Follow: true, Stop: stop}
	go func() {
		ended <- Read(t.Context(), "abc", o, func(_ string, _ time.Time, line []byte) error {
			got <- string(line)
			return nil
		})
	}()
	if line := <-got; line != "one\n" {
		t.Errorf("%q", line)
	}
	close(stop)
	must(t, <-ended)
	if line := <-got; line != "last\n" {
		t.Errorf("%q", line)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	must(t, err)
	if !strings.Contains(string(calls), "--after-cursor=c1") {
		t.Errorf("%s", calls)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	o.Stop = nil
	if err := Read(ctx, "abc", o, func(string, time.Time, []byte) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestReadWithoutProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := Read(t.Context(), "abc", jsonlog.Options{}, nil); !errdefs.IsNotImplemented(err) {
		t.Errorf("%v", err)
	}
}
