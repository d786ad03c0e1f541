package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/capture/decode"
	"github.com/fairlead/fairlead/capture/pcapng"
)

// textSink prints a line for each packet.
type textSink struct {
	out     *bufio.Writer
	printer *decode.Printer
}

func newTextSink(out io.Writer, p *decode.Printer) *textSink {
	return &textSink{out: bufio.NewWriter(out), printer: p}
}

func (s *textSink) block(b pcapng.Block, of []pcapng.Interface) error {
	switch v := b.Value.(type) {
	case []pcapng.Name:
		if s.printer.Names != nil {
			for _, n := range v {
				s.printer.Names[n.Address] = n.Name
			}
		}
	case pcapng.Packet:
		_, err := fmt.Fprintln(s.out, s.printer.Line(of[v.Interface], v))
		return err
	}
	return nil
}

func (s *textSink) flush() error { return s.out.Flush() }
func (s *textSink) close() error { return s.out.Flush() }

// rawSink writes what comes as it is.
type rawSink struct{ out *bufio.Writer }

func newRawSink(out io.Writer) *rawSink { return &rawSink{bufio.NewWriterSize(out, 64<<10)} }

func (s *rawSink) block(b pcapng.Block, _ []pcapng.Interface) error {
	_, err := s.out.Write(b.Raw)
	return err
}

func (s *rawSink) flush() error { return s.out.Flush() }
func (s *rawSink) close() error { return s.out.Flush() }

// fileSink writes files, each a capture of its own.
type fileSink struct {
	flags captureFlags
	// head are the blocks that each file begins with.
	head []byte

	file    *os.File
	out     *bufio.Writer
	size    uint64
	begun   time.Time
	number  uint64
	written []string
}

func newFileSink(f captureFlags) (*fileSink, error) {
	s := &fileSink{flags: f}
	err := s.next()
	return s, err
}

// rotates: there is more than one file.
func (s *fileSink) rotates() bool { return s.flags.size > 0 || s.flags.seconds > 0 }

// name is the file's, with its number before the extension.
func (s *fileSink) name() string {
	if !s.rotates() {
		return s.flags.write
	}
	ext := filepath.Ext(s.flags.write)
	return fmt.Sprintf("%s-%04d%s", strings.TrimSuffix(s.flags.write, ext), s.number, ext)
}

// next ends the file there is and begins another.
func (s *fileSink) next() error {
	if err := s.close(); err != nil {
		return err
	}
	s.number++
	name := s.name()
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	s.file, s.out, s.size, s.begun = file, bufio.NewWriterSize(file, 64<<10), uint64(len(s.head)), time.Now()
	if s.written = append(s.written, name); s.flags.files > 0 && uint64(len(s.written)) > s.flags.files {
		if err := os.Remove(s.written[0]); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove the oldest file of the capture: %w", err)
		}
		s.written = s.written[1:]
	}
	_, err = s.out.Write(s.head)
	return err
}

func (s *fileSink) block(b pcapng.Block, _ []pcapng.Interface) error {
	const megabyte = 1000 * 1000
	switch b.Value.(type) {
	case pcapng.Packet:
		if s.flags.size > 0 && s.size >= s.flags.size*megabyte ||
			s.flags.seconds > 0 && time.Since(s.begun) >= time.Duration(s.flags.seconds)*time.Second {
			if err := s.next(); err != nil {
				return err
			}
		}
	case pcapng.Statistics:
	default:
		s.head = append(s.head, b.Raw...)
	}
	s.size += uint64(len(b.Raw))
	_, err := s.out.Write(b.Raw)
	return err
}

func (s *fileSink) flush() error { return s.out.Flush() }

func (s *fileSink) close() error {
	if s.file == nil {
		return nil
	}
	err := s.out.Flush()
	if e := s.file.Close(); err == nil {
		err = e
	}
	s.file = nil
	return err
}
