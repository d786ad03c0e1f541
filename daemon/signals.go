package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// impatience is how many times the daemon is told to end until it does so at once.
const impatience = 3

// signals is what the daemon is told by signals: ctx ends by SIGTERM and SIGINT, and
// hangup has each SIGHUP. Whoever asks to end three times does not want to wait for
// containers any more. SIGUSR1 has the stacks of all goroutines written to a file in
// EXEC_ROOT, as dockerd does.
func signals(ctx context.Context, execRoot string, log *slog.Logger) (running context.Context, stop context.CancelFunc, hangup <-chan os.Signal) {
	ends, again, dump := make(chan os.Signal, impatience), make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(ends, unix.SIGTERM, unix.SIGINT)
	signal.Notify(again, unix.SIGHUP)
	signal.Notify(dump, unix.SIGUSR1)
	running, stop = context.WithCancel(ctx)
	go func() {
		for told := 0; ; {
			select {
			case s := <-ends:
				stop()
				if told++; told == impatience {
					log.Error("told to end again and again: ending at once; containers may be left running")
					os.Exit(128 + int(s.(unix.Signal)))
				}
			case <-dump:
				dumpStacks(execRoot, log)
			}
		}
	}()
	return running, stop, again
}

func dumpStacks(dir string, log *slog.Logger) {
	path := filepath.Join(dir, fmt.Sprintf("goroutine-stacks-%s.log", time.Now().UTC().Format("2006-01-02T150405Z0700")))
	if err := os.WriteFile(path, stacks(), 0o600); err != nil {
		log.Error("the stacks of the goroutines cannot be written", "operation", "stacks", "err", err)
		return
	}
	log.Info("wrote the stacks of all goroutines", "path", path)
}

// stacks are those of all goroutines, whole.
func stacks() []byte {
	for size := 1 << 16; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return buf[:n]
		}
	}
}
