package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/logconfig"
	"github.com/fairlead/fairlead/streams"
	"github.com/fairlead/fairlead/streams/journal"
	"github.com/fairlead/fairlead/streams/jsonlog"
)

// LogsOptions say what of a container's log is wanted.
type LogsOptions struct {
	Stdout, Stderr, Follow, Timestamps bool
	// Details puts the attributes that the log's options ask for before each line.
	Details bool
	// Since and Until bound the time; zero is no bound.
	Since, Until time.Time
	// Tail is how many lines of the end to begin with; negative is all.
	Tail int
}

// Logs calls emit for each line, as the container wrote it. With Follow it ends
// when the container does.
func (e *Engine) Logs(ctx context.Context, ref string, opts LogsOptions, emit func(stream string, t time.Time, line []byte) error) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if !opts.Stdout && !opts.Stderr {
		return fmt.Errorf("Bad parameters: you must choose at least one stream: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	}
	var stop <-chan struct{}
	if opts.Follow {
		r := c.running()
		if r == nil {
			opts.Follow = false
		} else {
			stop = r.ended
		}
	}
	return e.readLog(ctx, c.record(), jsonlog.Options{
		Follow: opts.Follow, Stop: stop, Since: opts.Since, Until: opts.Until, Tail: opts.Tail,
		Stdout: opts.Stdout, Stderr: opts.Stderr, Timestamps: opts.Timestamps, Details: opts.Details,
	}, emit)
}

// readLog reads the log wherever the container's driver has put it.
func (e *Engine) readLog(ctx context.Context, rec Record, o jsonlog.Options, emit jsonlog.Emit) error {
	switch rec.HostConfig.LogConfig.Type {
	case logconfig.None:
		return fmt.Errorf("configured logging driver does not support reading: the container has no log: %w", errdefs.ErrNotImplemented)
	case logconfig.Journald:
		return journal.Read(ctx, rec.ID, o, emit)
	}
	return jsonlog.Read(ctx, e.logPath(rec.ID), o, emit)
}

// Terminal says whether the container has one: its output is then one raw
// stream.
func (e *Engine) Terminal(ref string) (bool, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return false, err
	}
	return c.record().Config.Tty, nil
}

// AttachOptions say what of a container's streams a client takes part in.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	// Logs sends what was written before; Stream goes on with what comes.
	Logs, Stream bool
	// DetachKeys is Docker's form, such as "ctrl-p,ctrl-q", which is the
	// default.
	DetachKeys string
	// Preread is what the client sent that was read from conn already.
	Preread []byte
}

// Attach passes the client's connection on to whoever serves it; the caller
// closes its own copy when Attach has returned. It may come before the start.
func (e *Engine) Attach(ctx context.Context, ref string, opts AttachOptions, conn *os.File) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	keys, err := detachKeys(opts.DetachKeys)
	if err != nil {
		return err
	}
	rec := c.record()
	if !rec.Config.Tty {
		keys = nil
	}
	if opts.Logs {
		if err := e.sendLog(ctx, rec, opts, conn); err != nil {
			return fmt.Errorf("send the log of container %s: %w", rec.Name, err)
		}
	}
	e.emitContainer(rec, apievents.ActionAttach)
	if !opts.Stream {
		return nil
	}
	return e.cfg.Streams.Attach(ctx, streams.AttachSpec{
		ID: rec.ID, Stdin: opts.Stdin && rec.Config.OpenStdin, Stdout: opts.Stdout, Stderr: opts.Stderr,
		Terminal: rec.Config.Tty, DetachKeys: keys, Preread: opts.Preread,
	}, conn)
}

// sendLog writes the log so far as an attached client reads it: raw from a
// terminal, else with Docker's header of eight bytes before each piece.
func (e *Engine) sendLog(ctx context.Context, rec Record, opts AttachOptions, conn *os.File) error {
	read := jsonlog.Options{Tail: -1, Stdout: opts.Stdout, Stderr: opts.Stderr}
	if rec.HostConfig.LogConfig.Type == logconfig.None {
		return nil // as Docker: there was nothing before
	}
	return e.readLog(ctx, rec, read, func(stream string, _ time.Time, line []byte) error {
		if !rec.Config.Tty {
			header := [8]byte{0: 1}
			if stream == "stderr" {
				header[0] = 2
			}
			binary.BigEndian.PutUint32(header[4:], uint32(len(line)))
			line = append(header[:], line...)
		}
		_, err := conn.Write(line)
		return err
	})
}

// Resize sets the size of the container's terminal.
func (e *Engine) Resize(ctx context.Context, ref string, height, width uint) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if c.running() == nil {
		return fmt.Errorf("container %s is not running: %w", c.id, errdefs.ErrConflict)
	}
	if err := e.rt.Resize(ctx, c.id, "", width, height); err != nil {
		return err
	}
	e.emitContainer(c.record(), apievents.ActionResize, "height", strconv.FormatUint(uint64(height), 10), "width", strconv.FormatUint(uint64(width), 10))
	return nil
}

// CanAttach refuses a container that nobody can be attached to now, in Docker's
// words; before its start one can.
func (e *Engine) CanAttach(ref string) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	switch state := c.record().State; {
	case state.Restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running: %w", ref, errdefs.ErrConflict)
	case state.Paused:
		return fmt.Errorf("container %s is paused, unpause the container before attach: %w", ref, errdefs.ErrConflict)
	}
	return nil
}

var errKeys = errors.New("want single characters, or ctrl- with one of a-z @ [ \\ ] ^ _, separated by commas")

// detachKeys reads Docker's form of a sequence of keys.
func detachKeys(s string) ([]byte, error) {
	if s == "" {
		s = "ctrl-p,ctrl-q"
	}
	var out []byte
	for i := 0; i < len(s); {
		end := i
		for end < len(s) && (s[end] != ',' || end == i) {
			end++
		}
		key := s[i:end]
		switch {
		case len(key) == 1:
			out = append(out, key[0])
		case len(key) == 6 && key[:5] == "ctrl-" && key[5] >= 'a' && key[5] <= 'z':
			out = append(out, key[5]-'a'+1)
		case len(key) == 6 && key[:5] == "ctrl-" && (key[5] == '@' || key[5] >= '[' && key[5] <= '_'):
			out = append(out, key[5]-'@')
		default:
			return nil, fmt.Errorf("invalid detach keys %q: %w: %w", s, errKeys, errdefs.ErrInvalidArgument)
		}
		i = end + 1
	}
	return out, nil
}
