package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"github.com/moby/term"
	"github.com/spf13/cobra"
	xterm "golang.org/x/term"
)

// errDetached ends an attachment whose detach keys were typed. The command
// inside goes on.
var errDetached = errors.New("detached")

// defaultDetachKeys are Docker's.
const defaultDetachKeys = "ctrl-p,ctrl-q"

// attachment is one hijacked connection to a container's or an exec's streams,
// and our ends of it.
type attachment struct {
	conn client.HijackedResponse
	// tty: the container's output is one raw stream, and our terminal is raw.
	tty bool
	// in is nil where standard input is not passed on.
	in io.Reader
	// out and errs are nil where that stream was not asked for.
	out, errs io.Writer
	// detachKeys, only looked for with a terminal.
	detachKeys string
}

// run copies until the container's output ends, or, where no output was asked
// for, until our input does. Our input's end is passed on as a half-close.
func (t *attachment) run() error {
	defer t.conn.Close()
	input := make(chan error, 1)
	if t.in != nil {
		go func() { input <- t.copyIn() }()
	}
	output := make(chan error, 1)
	if t.out != nil || t.errs != nil {
		go func() { output <- t.copyOut() }()
	} else if t.in == nil {
		return nil
	}
	for {
		select {
		case err := <-output:
			return err
		case err := <-input:
			// With output still to come, only detaching ends the attachment.
			if errors.Is(err, errDetached) || (t.out == nil && t.errs == nil) {
				return err
			}
			input = nil
		}
	}
}

func (t *attachment) copyOut() error {
	out, errs := t.out, t.errs
	if out == nil {
		out = io.Discard
	}
	if errs == nil {
		errs = io.Discard
	}
	var err error
	if t.tty {
		_, err = io.Copy(out, t.conn.Reader)
	} else {
		_, err = stdcopy.StdCopy(out, errs, t.conn.Reader)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("read the container's output: %w", err)
	}
	return nil
}

func (t *attachment) copyIn() error {
	in := t.in
	if t.tty {
		keys, err := term.ToBytes(t.detachKeys)
		if err != nil {
			return usagef("invalid --detach-keys %q: %w", t.detachKeys, err)
		}
		in = term.NewEscapeProxy(in, keys)
	}
	_, err := io.Copy(t.conn.Conn, in)
	if errors.As(err, new(term.EscapeError)) {
		return errDetached
	}
	// The other side may have closed first; how it ended is the output's to say.
	_ = t.conn.CloseWrite()
	return nil
}

// rawTerminal puts our terminal into raw mode and returns what undoes it, also
// where a signal ends this process. Input that is no terminal is left alone.
func (a *app) rawTerminal() (restore func(), err error) {
	file, isFile := a.stdinFile()
	if !isFile || !xterm.IsTerminal(int(file.Fd())) {
		return func() {}, nil
	}
	fd := int(file.Fd())
	state, err := xterm.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set the terminal to raw mode: %w", err)
	}
	fatal := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(fatal, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case sig := <-fatal:
			_ = xterm.Restore(fd, state)
			number, _ := sig.(syscall.Signal)
			os.Exit(exitSignalled + int(number))
		case <-done:
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(fatal)
		close(done)
		_ = xterm.Restore(fd, state)
	}), nil
}

// silence is how long what runs may go on without its output before that is said.
const silence = 3 * time.Second

// sayRunsOn says, unless it is stopped before, that what was attached to has no output
// any more and is waited for; more says what can be done.
func (a *app) sayRunsOn(what, more string) (stop func() bool) {
	return time.AfterFunc(silence, func() {
		fmt.Fprintf(a.Err, "%s runs on without its output, which it closed, or the process that passes it on was killed; %s\n", what, more)
	}).Stop
}

// needTerminal refuses -i -t where our input is no terminal: the command would
// wait for keys that nobody can type.
func (a *app) needTerminal(stdin, tty bool) error {
	if !stdin || !tty {
		return nil
	}
	if file, ok := a.stdinFile(); ok && xterm.IsTerminal(int(file.Fd())) {
		return nil
	}
	return usagef("the input is not a terminal: leave out -t to pass it on as it is")
}

// terminalSize is our terminal's size, false where we have none.
func (a *app) terminalSize() (height, width uint, ok bool) {
	file, isFile := a.Out.(*os.File)
	if !isFile {
		return 0, 0, false
	}
	w, h, err := xterm.GetSize(int(file.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return 0, 0, false
	}
	return uint(h), uint(w), true
}

// followSize tells resize our terminal's size, now and whenever it changes,
// until ctx is done. A command that is only just starting may not have its
// terminal yet: the first time is tried again.
func (a *app) followSize(ctx context.Context, resize func(height, width uint) error) {
	send := func() error {
		height, width, ok := a.terminalSize()
		if !ok {
			return nil
		}
		return resize(height, width)
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		defer signal.Stop(changed)
		for try := range 10 {
			if send() == nil || !pause(ctx, time.Duration(try+1)*10*time.Millisecond) {
				break
			}
		}
		for {
			select {
			case <-changed:
				_ = send() // the next change will be told again
			case <-ctx.Done():
				return
			}
		}
	}()
}

// pause waits, and says whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// proxiedSignals are passed on to a container run in the foreground: what a
// person, a shell or a supervisor sends. SIGCHLD, SIGPIPE and SIGURG are this
// process's own.
var proxiedSignals = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGALRM, syscall.SIGTERM,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT, syscall.SIGWINCH,
}

// proxySignals sends the signals this process gets to the container, until the
// returned function is called.
func proxySignals(ctx context.Context, c *client.Client, id string) (stop func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, proxiedSignals...)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-signals:
				number, _ := sig.(syscall.Signal)
				// A container that is gone needs no signal; a daemon that is
				// away cannot pass one on, and the next may reach it.
				_, _ = c.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: fmt.Sprint(int(number))})
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// settleKeys takes the detach keys from docker's configuration file where no flag names
// any, and refuses those that cannot be typed before anything is started.
func (a *app) settleKeys(cmd *cobra.Command, keys *string) error {
	if own := a.credentials().DetachKeys; own != "" && !cmd.Flags().Changed("detach-keys") {
		*keys = own
	}
	if _, err := term.ToBytes(*keys); err != nil {
		return usagef("invalid --detach-keys %q: want keys as ctrl-p,ctrl-q", *keys)
	}
	return nil
}

// detachFlag registers --detach-keys.
func detachFlag(cmd *cobra.Command, keys *string) {
	cmd.Flags().StringVar(keys, "detach-keys", defaultDetachKeys, "keys that detach and leave the command running")
}
