// Package journal writes container logs to systemd's journal, in the native
// protocol of its socket, and reads them back by journalctl(1).
//
// It knows fields and entries; which container they are of is in the fields.
package journal

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/streams/lines"
)

// envSocket names another socket, for tests.
const envSocket = "FAIRLEAD_JOURNAL_SOCKET"

// Socket is where systemd-journald listens.
func Socket() string {
	return cmp.Or(os.Getenv(envSocket), "/run/systemd/journal/socket")
}

// The fields of Docker's driver that each entry has of its own.
const (
	message        = "MESSAGE"
	priority       = "PRIORITY"
	timestamp      = "SYSLOG_TIMESTAMP"
	partialMessage = "CONTAINER_PARTIAL_MESSAGE"
	partialID      = "CONTAINER_PARTIAL_ID"
	partialOrdinal = "CONTAINER_PARTIAL_ORDINAL"
	partialLast    = "CONTAINER_PARTIAL_LAST"
)

// The priorities of the streams, as Docker's: info and err of syslog(3).
const (
	priorityStdout = "6"
	priorityStderr = "3"
)

// Writer sends one container's output to the journal. Its methods may be called
// by several goroutines at once.
type Writer struct {
	socket  string
	fields  []byte // those that every entry has, encoded
	patient time.Duration

	mu    sync.Mutex
	conn  *net.UnixConn
	split lines.Splitter
	// parts are the long lines that are under way, by stream.
	parts map[string]*part
	buf   []byte
}

// part is a line that is longer than an entry.
type part struct {
	id      string
	ordinal int
}

// NewWriter makes a writer of entries with these fields. The journal need not be
// there yet, and may go and come back.
func NewWriter(socket string, fields map[string]string) (*Writer, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	w := &Writer{socket: socket, conn: conn, parts: make(map[string]*part), patient: 10 * time.Second}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		w.fields = appendField(w.fields, name, []byte(fields[name]))
	}
	return w, nil
}

// appendField encodes a field as https://systemd.io/JOURNAL_NATIVE_PROTOCOL says:
// a value with a newline in it goes behind its length.
func appendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		dst = append(append(dst, '='), value...)
		return append(dst, '\n')
	}
	dst = append(dst, '\n')
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(value)))
	return append(append(dst, value...), '\n')
}

// FieldName makes a field's name of any text: upper-case letters, digits and
// underscores, none of them at the beginning. It is empty if nothing is left.
func FieldName(text string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, text)
	return strings.TrimLeft(name, "_")
}

// Write sends output that arrived on stream at time t; a line that is not at its
// end waits for that. After an error what was to be sent is lost.
func (w *Writer) Write(stream string, t time.Time, output []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var failed error
	w.split.Split(stream, output, func(text []byte) {
		if err := w.entry(stream, t, text); err != nil {
			failed = errors.Join(failed, err)
		}
	})
	return failed
}

// End sends what waits for the end of its line: the stream has ended.
func (w *Writer) End(stream string, t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.split.End(stream)
	if len(rest) == 0 {
		return nil
	}
	// As Docker: the last line has an end whether it was written or not.
	return w.entry(stream, t, append(bytes.Clone(rest), '\n'))
}

func (w *Writer) entry(stream string, t time.Time, text []byte) error {
	line, whole := bytes.CutSuffix(text, []byte{'\n'})
	p := w.parts[stream]
	if p == nil && len(line) == 0 {
		return nil // the journal has no empty messages, and Docker writes none
	}
	b := w.buf[:0]
	b = append(b, w.fields...)
	b = appendField(b, message, line)
	number := priorityStdout
	if stream == "stderr" {
		number = priorityStderr
	}
	b = appendField(b, priority, []byte(number))
	b = appendField(b, timestamp, t.UTC().AppendFormat(nil, time.RFC3339Nano))
	if p == nil && !whole {
		p = &part{id: rand.Text()}
		w.parts[stream] = p
	}
	if p != nil {
		p.ordinal++
		b = appendField(b, partialID, []byte(p.id))
		b = appendField(b, partialOrdinal, []byte(strconv.Itoa(p.ordinal)))
		b = appendField(b, partialLast, []byte(strconv.FormatBool(whole)))
		if !whole {
			b = appendField(b, partialMessage, []byte("true"))
		}
	}
	if whole {
		delete(w.parts, stream)
	}
	w.buf = b
	return w.send(b)
}

// send gives the journal one entry; a journal that takes none holds the container
// up only for so long.
func (w *Writer) send(b []byte) error {
	to := &net.UnixAddr{Name: w.socket, Net: "unixgram"}
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.patient)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, _, err := w.conn.WriteMsgUnix(b, nil, to)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		err = w.sendFile(b, to)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// sendFile sends an entry that no datagram can hold, as the protocol has it: a
// sealed file of memory.
func (w *Writer) sendFile(b []byte, to *net.UnixAddr) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "journal-entry")
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	_, _, err = w.conn.WriteMsgUnix(nil, unix.UnixRights(int(f.Fd())), to)
	return err
}

// Pending returns copies of what waits for the end of its line, by stream, for
// another writer to go on with.
func (w *Writer) Pending() map[string][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.split.Pending()
}

// Restore goes on with another writer's Pending.
func (w *Writer) Restore(pending map[string][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.split.Restore(pending)
}

// Close closes the connection; what waits for its end is lost unless End came
// before.
func (w *Writer) Close() error { return w.conn.Close() }
