package proxy

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// readBytes is how much this process has read by read(2) and the like; what
// splice(2) moves does not count (rchar of proc_pid_io(5)).
func readBytes(t *testing.T) (n int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(strings.TrimSpace(string(b)), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What goes through the proxy does not pass through the process, either way. It is
// not parallel: others' reads would count.
func TestSplice(t *testing.T) {
	const size = 64 << 20
	client, backend, done := through(t, new(Group))
	for name, ends := range map[string][2]io.ReadWriter{"up": {client, backend}, "down": {backend, client}} {
		before := readBytes(t)
		sent := make(chan error, 1)
		go func() {
			_, err := io.CopyN(ends[0], zeroes{}, size)
			sent <- err
		}()
		// The reader's own reads, once.
		got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(ends[1], size), make([]byte, 1<<20))
		if err != nil || got != size || <-sent != nil {
			t.Fatalf("%s: %d bytes, %v", name, got, err)
		}
		if read := readBytes(t) - before; read > size*3/2 {
			t.Errorf("%s: %d bytes were read for %d, so the proxy reads them too", name, read, size)
		}
	}
	_ = client.Close()
	_ = backend.Close()
	<-done
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { return len(b), nil }
