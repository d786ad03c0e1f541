package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/streams/jsonlog"
)

// program reads the journal, whose files are for systemd's own library.
const program = "journalctl"

// CanRead says whether the journal can be read on this host.
func CanRead() bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// known are the fields that are no attributes of an entry, beside those of the
// journal's own, which begin with an underscore. The list is Docker's.
var known = map[string]bool{
	message: true, "MESSAGE_ID": true, priority: true, "CODE_FILE": true, "CODE_LINE": true, "CODE_FUNC": true, "ERRNO": true,
	"SYSLOG_FACILITY": true, "SYSLOG_IDENTIFIER": true, "SYSLOG_PID": true, timestamp: true,
	"CONTAINER_NAME": true, "CONTAINER_ID": true, "CONTAINER_ID_FULL": true, "CONTAINER_TAG": true, "IMAGE_NAME": true,
	partialMessage: true, partialID: true, partialOrdinal: true, partialLast: true,
}

// Read calls emit for the entries of the container with the full ID, in order, as
// jsonlog.Read does. Without journalctl the error is errdefs.ErrNotImplemented.
func Read(ctx context.Context, id string, o jsonlog.Options, emit jsonlog.Emit) error {
	if !CanRead() {
		return fmt.Errorf("configured logging driver does not support reading: journald's log is read by %s, which this host does not have: %w", program, errdefs.ErrNotImplemented)
	}
	// What was written is in the journal's files then; where it is not, because
	// journald is too old or does not answer, the worst is that the end is missing.
	sync, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = exec.CommandContext(sync, program, "--sync").Run()
	r := &reader{options: o, emit: emit, within: make(map[string]bool)}
	args := []string{"CONTAINER_ID_FULL=" + id}
	if o.Tail >= 0 {
		args = append(args, "--lines="+strconv.Itoa(o.Tail))
	} else {
		args = append(args, "--lines=all")
	}
	if !o.Since.IsZero() {
		args = append(args, "--since=@"+unixTime(o.Since))
	}
	if !o.Until.IsZero() && !o.Follow {
		// The journal's own time, which this is compared with, is a little later.
		args = append(args, "--until=@"+unixTime(o.Until.Add(2*time.Second)))
	}
	if !o.Follow {
		return ended(r.run(ctx, args))
	}
	return ended(r.follow(ctx, id, args))
}

// unixTime is seconds since 1970 with a fraction, as journalctl reads after an @.
func unixTime(t time.Time) string {
	return fmt.Sprintf("%d.%06d", t.Unix(), t.Nanosecond()/1000)
}

// errUntil ends the reading: everything that follows is younger.
var errUntil = errors.New("past the time asked for")

func ended(err error) error {
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

// reader is one Read.
type reader struct {
	options jsonlog.Options
	emit    jsonlog.Emit
	cursor  string          // of the last entry
	within  map[string]bool // the stream's last entry did not end its line
}

// follow reads what comes until Stop, Until or the context end it, and then what
// has come and not been read.
func (r *reader) follow(ctx context.Context, id string, args []string) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		var until <-chan time.Time
		if !r.options.Until.IsZero() {
			t := time.NewTimer(time.Until(r.options.Until))
			defer t.Stop()
			until = t.C
		}
		select {
		case <-r.options.Stop:
		case <-until:
		case <-reading.Done():
		}
		stop()
	}()
	err := r.run(reading, append(args, "--follow"))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case reading.Err() == nil, err != nil && !errors.Is(err, context.Canceled):
		return err
	}
	sync, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = exec.CommandContext(sync, program, "--sync").Run()
	rest := []string{"CONTAINER_ID_FULL=" + id, "--lines=all"}
	if r.cursor != "" {
		rest = append(rest, "--after-cursor="+r.cursor)
	} else {
		rest = args
	}
	return r.run(ctx, rest)
}

// run emits what one run of journalctl prints.
func (r *reader) run(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, program, append([]string{"--output=export", "--quiet", "--no-pager", "--all"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	err = r.entries(out)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case waitErr != nil:
		return fmt.Errorf("read the journal: %s: %w: %s", program, waitErr, strings.TrimSpace(stderr.String()))
	}
	return nil
}

func (r *reader) entries(in io.Reader) error {
	d := newDecoder(in)
	for {
		fields, err := d.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		if err := r.entry(fields); err != nil {
			return err
		}
	}
}

func (r *reader) entry(fields map[string]string) error {
	r.cursor = fields["__CURSOR"]
	o := r.options
	t, err := time.Parse(time.RFC3339Nano, fields[timestamp])
	if err != nil { // of another program's making
		micro, _ := strconv.ParseInt(fields["__REALTIME_TIMESTAMP"], 10, 64)
		t = time.UnixMicro(micro)
	}
	if !o.Until.IsZero() && t.After(o.Until) {
		return errUntil
	}
	stream := jsonlog.Stdout
	if fields[priority] == priorityStderr {
		stream = jsonlog.Stderr
	}
	if (stream == jsonlog.Stdout && !o.Stdout) || (stream == jsonlog.Stderr && !o.Stderr) || t.Before(o.Since) {
		return nil
	}
	line := []byte(fields[message])
	if fields[partialMessage] != "true" {
		line = append(line, '\n')
	}
	if !r.within[stream] {
		attrs := make(map[string]string)
		for name, value := range fields {
			if name[0] != '_' && !known[name] {
				attrs[name] = value
			}
		}
		line = append(o.Prefix(t, attrs), line...)
	}
	r.within[stream] = fields[partialMessage] == "true"
	return r.emit(stream, t, line)
}

// decoder reads entries in the journal's export format,
// https://systemd.io/JOURNAL_EXPORT_FORMATS: that of the socket, with an empty
// line after each.
type decoder struct{ in *bufio.Reader }

func newDecoder(in io.Reader) decoder { return decoder{bufio.NewReaderSize(in, 64<<10)} }

// maxField bounds a field's value, in bytes: those of ours are shorter.
const maxField = 64 << 20

// next is the next entry's fields; io.EOF says that there is none.
func (d decoder) next() (map[string]string, error) {
	fields := make(map[string]string)
	for {
		line, err := d.in.ReadString('\n')
		if err != nil {
			if errors.Is(err, io.EOF) && (line != "" || len(fields) > 0) {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
		line = line[:len(line)-1]
		if line == "" {
			if len(fields) == 0 {
				continue
			}
			return fields, nil
		}
		if name, value, found := strings.Cut(line, "="); found {
			fields[name] = value
			continue
		}
		value, err := d.long()
		if err != nil {
			return nil, err
		}
		fields[line] = value
	}
}

// long reads a value behind its length.
func (d decoder) long() (string, error) {
	var size uint64
	if err := binary.Read(d.in, binary.LittleEndian, &size); err != nil {
		return "", err
	}
	if size > maxField {
		return "", fmt.Errorf("a field of %d bytes", size)
	}
	value := make([]byte, size+1)
	if _, err := io.ReadFull(d.in, value); err != nil {
		return "", err
	}
	return string(value[:size]), nil
}
