package streams

import (
	"time"

	"github.com/fairlead/fairlead/streams/journal"
	"github.com/fairlead/fairlead/streams/jsonlog"
)

// Logging says how a container's output is kept, beyond where. The zero value is
// one file that grows, written before the container goes on.
type Logging struct {
	// Journal are the fields that every entry has in systemd's journal; nil is no
	// entry there.
	Journal map[string]string `json:"journal,omitempty"`
	// MaxSize, MaxFiles, Compress and Attrs are those of jsonlog.WriterOptions.
	MaxSize  int64             `json:"max_size,omitempty"`
	MaxFiles int               `json:"max_files,omitempty"`
	Compress bool              `json:"compress,omitempty"`
	Attrs    map[string]string `json:"attrs,omitempty"`
	// Buffer is how much output, in bytes, may wait for the log while the
	// container goes on; what does not fit is lost. 0 has the container wait.
	Buffer int64 `json:"buffer,omitempty"`
}

// logWriter is a container's log; jsonlog and journal each have one.
type logWriter interface {
	Write(stream string, t time.Time, output []byte) error
	End(stream string, t time.Time) error
	// Pending is what waits for the end of its line, for Restore in a successor; all
	// that came before is written.
	Pending() map[string][]byte
	Restore(pending map[string][]byte)
	Close() error
}

// openLog opens the log that the specification asks for; nil is none. told hears
// what became of writes that are done later.
func openLog(s Spec, socket string, told func(error)) (logWriter, error) {
	var log logWriter
	var err error
	switch {
	case s.Logging.Journal != nil:
		log, err = journal.NewWriter(socket, s.Logging.Journal)
	case s.Log != "":
		log, err = jsonlog.OpenWriter(s.Log, jsonlog.WriterOptions{
			MaxSize: s.Logging.MaxSize, MaxFiles: s.Logging.MaxFiles, Compress: s.Logging.Compress, Attrs: s.Logging.Attrs,
		})
	default:
		return nil, nil //nolint:nilnil // no log is no error
	}
	if err != nil {
		return nil, err
	}
	if s.Logging.Buffer > 0 {
		log = newLogBuffer(log, s.Logging.Buffer, told)
	}
	return log, nil
}
