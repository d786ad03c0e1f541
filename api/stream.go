package api

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"
	"github.com/moby/term"

	"github.com/fairlead/fairlead/engine"
)

// mediaType names the form of a stream: raw where there is a terminal; and in
// versions before 1.42, which know no other.
func mediaType(version minor, terminal bool) string {
	if terminal || version < 42 {
		return types.MediaTypeRawStream
	}
	return types.MediaTypeMultiplexedStream
}

// takeOver answers that the connection is a stream from here on, and returns it
// as a file, which can be given to another process, with what the client sent
// ahead. A client that asked for an upgrade gets 101; one that did not, an older
// one, a 200 without an end.
func takeOver(w http.ResponseWriter, r *http.Request, mediaType string) (file *os.File, ahead []byte, err error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	// The file is a duplicate: the connection stays open until that is closed.
	defer func() { _ = conn.Close() }()
	ahead = make([]byte, buffered.Reader.Buffered())
	if _, err := io.ReadFull(buffered.Reader, ahead); err != nil {
		return nil, nil, fmt.Errorf("read what the client sent ahead: %w", err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		// A command may be silent for days; a client that is gone should not
		// be waited for as long.
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second})
	}
	source, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		_, _ = io.WriteString(conn, "HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return nil, nil, fmt.Errorf("a %T cannot be handed on as a stream", conn)
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + types.MediaTypeRawStream + "\r\n\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + mediaType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, nil, fmt.Errorf("answer the upgrade: %w", err)
	}
	if file, err = source.File(); err != nil {
		return nil, nil, fmt.Errorf("duplicate the connection: %w", err)
	}
	return file, ahead, nil
}

// stream takes the connection over and has serve pass it on. An error of serve
// comes too late for a status: it is written where the user looks, to the
// standard error of the stream.
func (s *server) stream(w http.ResponseWriter, r *http.Request, terminal bool, serve func(conn *os.File, ahead []byte) error) {
	log := s.log.With(append(subject(r), "method", r.Method, "path", r.URL.Path)...)
	conn, ahead, err := takeOver(w, r, mediaType(versionOf(r), terminal))
	if err != nil {
		log.ErrorContext(r.Context(), "stream failed", "err", err)
		return
	}
	defer func() { _ = conn.Close() }()
	if err := serve(conn, ahead); err != nil {
		_, text := classify(err)
		log.DebugContext(r.Context(), "stream failed", "err", err)
		line := []byte(text + "\r\n")
		if !terminal {
			line = frame(stdcopy.Stderr, line)
		}
		_, _ = conn.Write(line) // the client may be gone
	}
}

// frame puts Docker's header before a part of a multiplexed stream: the stream's
// number, three zeros, and the length in network order.
func frame(stream stdcopy.StdType, b []byte) []byte {
	out := make([]byte, 8, 8+len(b))
	out[0] = byte(stream)
	binary.BigEndian.PutUint32(out[4:], uint32(len(b)))
	return append(out, b...)
}

func (s *server) containerAttach(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	options := engine.AttachOptions{
		Stdin: boolean(q, "stdin"), Stdout: boolean(q, "stdout"), Stderr: boolean(q, "stderr"),
		Logs: boolean(q, "logs"), Stream: boolean(q, "stream"), DetachKeys: q.Get("detachKeys"),
	}
	if options.DetachKeys != "" {
		if _, err := term.ToBytes(options.DetachKeys); err != nil {
			return invalid("invalid detach keys (%s) provided", options.DetachKeys)
		}
	}
	name := r.PathValue("name")
	terminal, err := s.engine.Terminal(name)
	if err == nil {
		err = s.engine.CanAttach(name)
	}
	if err != nil {
		return err
	}
	defer s.attaching.begin()()
	s.stream(w, r, terminal, func(conn *os.File, ahead []byte) error {
		options.Preread = ahead
		return s.engine.Attach(r.Context(), name, options, conn)
	})
	return nil
}

func (s *server) containerResize(w http.ResponseWriter, r *http.Request) error {
	height, width, err := size(r.URL.Query())
	if err != nil {
		return err
	}
	return s.engine.Resize(r.Context(), r.PathValue("name"), height, width)
}

// logsOptions reads a logs request. Times are seconds since 1970, with or
// without a fraction.
func logsOptions(r *http.Request) (engine.LogsOptions, error) {
	q := r.URL.Query()
	options := engine.LogsOptions{
		Stdout: boolean(q, "stdout"), Stderr: boolean(q, "stderr"),
		Follow: boolean(q, "follow"), Timestamps: boolean(q, "timestamps"), Details: boolean(q, "details"), Tail: -1,
	}
	if !options.Stdout && !options.Stderr {
		return options, invalid("Bad parameters: you must choose at least one stream")
	}
	var err error
	if options.Since, err = timestamp(q.Get("since")); err != nil {
		return options, err
	}
	if options.Until, err = timestamp(q.Get("until")); err != nil {
		return options, err
	}
	// Docker takes anything that is no number for all.
	if n, err := strconv.Atoi(q.Get("tail")); err == nil && n >= 0 {
		options.Tail = n
	}
	return options, nil
}

func timestamp(text string) (time.Time, error) {
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, invalid("invalid time %q: want seconds since 1970", text)
	}
	nanos, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, invalid("invalid time %q: want seconds since 1970", text)
	}
	return time.Unix(seconds, nanos), nil
}

func (s *server) containerLogs(w http.ResponseWriter, r *http.Request) error {
	options, err := logsOptions(r)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	terminal, err := s.engine.Terminal(name)
	if err != nil {
		return err
	}
	out := logWriter{w: w, buf: bufio.NewWriterSize(w, 32<<10), mediaType: mediaType(versionOf(r), terminal)}
	if options.Follow && out.flush() != nil {
		return nil //nolint:nilerr // the client is gone
	}
	err = s.engine.Logs(r.Context(), name, options, func(stream string, _ time.Time, line []byte) error {
		out.begin()
		if err := writeLine(out.buf, stream, line, terminal); err != nil {
			out.gone = true
			return err
		}
		if options.Follow {
			return out.flush()
		}
		return nil
	})
	switch {
	case out.gone || r.Context().Err() != nil:
		// Nobody reads on: that is how people leave `logs -f`.
		s.log.DebugContext(r.Context(), "the reader of logs went away", "container", name, "err", err)
		return nil //nolint:nilerr // there is nobody to tell
	case err != nil && !out.began:
		return err
	case err != nil:
		// Too late for a status: Docker's clients print this frame.
		s.log.ErrorContext(r.Context(), "reading logs failed", "operation", "logs", "container", name, "err", err)
		_, text := classify(err)
		_, _ = out.buf.Write(frame(stdcopy.Systemerr, []byte("Error grabbing logs: "+text+"\n")))
	}
	_ = out.flush() // the client may be gone
	return nil
}

// logWriter is the answer to a logs request, which begins late: until then an
// error has a status of its own.
type logWriter struct {
	w         http.ResponseWriter
	buf       *bufio.Writer
	mediaType string
	began     bool
	// gone is set where the client takes no more.
	gone bool
}

func (l *logWriter) begin() {
	if !l.began {
		l.began = true
		l.w.Header().Set("Content-Type", l.mediaType)
		l.w.WriteHeader(http.StatusOK)
	}
}

// flush sends what was written, and the header if nothing was.
func (l *logWriter) flush() error {
	l.begin()
	err := l.buf.Flush()
	if err == nil {
		err = http.NewResponseController(l.w).Flush()
	}
	l.gone = l.gone || err != nil
	return err
}

// writeLine writes one line of a log in the stream's form.
func writeLine(out io.Writer, stream string, line []byte, terminal bool) error {
	if !terminal {
		number := stdcopy.Stdout
		if stream == "stderr" {
			number = stdcopy.Stderr
		}
		line = frame(number, line)
	}
	_, err := out.Write(line)
	return err
}
