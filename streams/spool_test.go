package streams

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// What goes in comes out, in order, round and round the file.
func TestSpool(t *testing.T) {
	t.Parallel()
	s, err := newSpool(t.TempDir())
	must(t, err)
	defer s.close()
	s.limit = 1000
	random := rand.New(rand.NewPCG(1, 2))
	var in, out bytes.Buffer
	for i := range 5000 {
		if n := random.IntN(400); s.size()+int64(n) <= s.limit {
			b := bytes.Repeat([]byte{byte(i)}, n)
			must(t, s.add(b))
			in.Write(b)
		}
		if random.IntN(2) == 0 && s.size() > 0 {
			b, err := s.take(random.IntN(500) + 1)
			must(t, err)
			out.Write(b)
		}
	}
	for s.size() > 0 {
		b, err := s.take(1 << 20)
		must(t, err)
		out.Write(b)
	}
	if !bytes.Equal(in.Bytes(), out.Bytes()) || in.Len() < 100_000 {
		t.Errorf("%d bytes in, %d out", in.Len(), out.Len())
	}
	if fi, err := s.file.Stat(); err != nil || fi.Size() != 0 {
		t.Errorf("an empty spool takes %d bytes, %v", fi.Size(), err)
	}
}

// rss is the resident memory of a process in bytes.
func rss(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	must(t, err)
	var size, resident int
	_, err = fmt.Sscan(string(raw), &size, &resident)
	must(t, err)
	return resident * os.Getpagesize()
}

// A client that has stopped reading does not stop the container; when it reads on it
// gets everything, though the process was replaced meanwhile, and until then it costs
// little memory.
func TestClientThatPauses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	box := newContainer(t, "a")
	box.spec.Spool, box.spec.Log = t.TempDir(), ""
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	paused := attach(t, c, AttachSpec{ID: "a", Stdout: true})
	before := rss(t, c.PID())
	half := strings.Repeat(strings.Repeat("x", 99)+"\n", 200_000) // 20 MB
	began := time.Now()
	_, err := io.WriteString(box.stdout, half)
	must(t, err)
	if took := time.Since(began); took > 10*testStall {
		t.Errorf("it took %v", took)
	}
	if grew := rss(t, c.PID()) - before; grew > 15<<20 {
		t.Errorf("the process grew by %d MB", grew>>20)
	}
	c = ensure(t, root, "two")
	last := strings.Repeat(strings.Repeat("y", 99)+"\n", 200_000)
	_, err = io.WriteString(box.stdout, last)
	must(t, err)
	box.exit()
	if out, _ := demultiplex(t, paused); out != half+last {
		t.Errorf("it got %d bytes of %d", len(out), len(half+last))
	}
	drained(t, c, "a")
	if left, err := os.ReadDir(box.spec.Spool); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// One that never reads is dropped when disk is full too: at once if it has not read
// for the time that a container waits.
func TestClientThatFillsItsSpool(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "short-stall")
	box := newContainer(t, "a")
	box.spec.Spool, box.spec.Log = t.TempDir(), ""
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	attach(t, c, AttachSpec{ID: "a", Stdout: true})
	piece := strings.Repeat(strings.Repeat("x", 99)+"\n", 10_000)
	for range 30 {
		_, err := io.WriteString(box.stdout, piece)
		must(t, err)
	}
	time.Sleep(testStall + 100*time.Millisecond)
	began := time.Now()
	for range 60 {
		_, err := io.WriteString(box.stdout, piece)
		must(t, err)
	}
	// Somebody who waited for the client would wait for ever.
	if took := time.Since(began); took > 10*testStall {
		t.Errorf("the container waited %v", took)
	}
	box.exit()
	drained(t, c, "a")
	if l, _ := c.List(t.Context()); l[0].Clients != 0 {
		t.Errorf("%d clients are left", l[0].Clients)
	}
}
