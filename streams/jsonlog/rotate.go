package jsonlog

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The files of a log are PATH, which is written to, and those before it: PATH.1,
// which is the youngest, PATH.2 and so on, or with .gz at the end those that are
// packed. A packed file's gzip header has the identity of what was packed as its
// comment, by which a reader who is still at that finds what comes next.

const packed = ".gz"

// numbered is the name of the file n rotations ago.
func numbered(path string, n int) string { return path + "." + strconv.Itoa(n) }

// rotate begins another file. After an error the old one is gone on with. The
// caller holds w.mu and has flushed.
func (w *Writer) rotate() error {
	w.packing.wait()
	next, err := w.exchange()
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	err = w.file.Close()
	w.file, w.size, w.torn = next, 0, false
	if w.options.Compress && w.options.MaxFiles > 1 {
		w.packing = pack(w.path)
	}
	return err
}

// exchange makes a new file and puts it in the place of the old one, which keeps
// its name until the new one has it: a reader always finds one.
func (w *Writer) exchange() (*os.File, error) {
	const fresh = ".new"
	next, err := os.OpenFile(w.path+fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	if w.options.MaxFiles > 1 {
		err = shift(w.path, w.options.MaxFiles)
	}
	if err == nil {
		err = os.Rename(w.path+fresh, w.path)
	}
	if err != nil {
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}

// shift counts every file of the log on by one and drops what is over the limit
// then; the present one is called .1 too when it returns. From the oldest on, each
// takes the place of the one before it, which has its next place by then: a file has
// a name at every instant, and numbers no gap, so that a reader who goes from .1 on
// meets all. What is behind a gap, which other hands have made, stays.
func shift(path string, limit int) error {
	from := []string{path} // by number
	for _, s := range numbers(path) {
		if s.number >= limit {
			if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		} else if s.number == len(from) {
			from = append(from, s.path)
		}
	}
	last := len(from) - 1
	for n := range last {
		if sameFile(from[n], from[n+1]) { // a shift was cut short below here
			last = n - 1
			break
		}
	}
	for n := last; n >= 0; n-- {
		if n+1 < limit {
			if err := also(path, from[n], n+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	two, err := os.Stat(b)
	return err == nil && os.SameFile(one, two)
}

// also gives the file the name of n rotations ago, in the place of what has it.
func also(path, from string, n int) error {
	const moving = ".moving"
	to, other := numbered(path, n), numbered(path, n)+packed
	if strings.HasSuffix(from, packed) {
		to, other = other, to
	}
	err := os.Remove(path + moving)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Link(from, path+moving)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has been removed: there is nothing to keep
	}
	if err == nil {
		err = os.Rename(path+moving, to)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(other); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// finishShift takes away the second name that a crash between shift and what
// follows it has left the present file with.
func finishShift(path string, fi os.FileInfo) error {
	second, err := os.Stat(numbered(path, 1))
	if err != nil || !os.SameFile(fi, second) {
		return nil //nolint:nilerr // as a rule there is none
	}
	return os.Remove(numbered(path, 1))
}

// old is a file that is not written to any more.
type old struct {
	path, suffix string
	number       int
}

// numbers finds them, by their numbers, the youngest first. Of a file whose
// packing a crash cut short only what is whole is listed.
func numbers(path string) []old {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil
	}
	byNumber := make(map[int]old)
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), base+".")
		if !ok {
			continue
		}
		digits, isPacked := strings.CutSuffix(rest, packed)
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 {
			continue
		}
		o := old{path: filepath.Join(dir, entry.Name()), number: n}
		if isPacked {
			o.suffix = packed
		} else if byNumber[n].path != "" {
			continue
		}
		byNumber[n] = o
	}
	out := make([]old, 0, len(byNumber))
	for _, o := range byNumber {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b old) int { return a.number - b.number })
	return out
}

// packing packs the youngest old file of one log, beside its writer.
type packing struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// packings are under way, by the log's path: a container may end and start again
// while its log is packed.
var packings struct {
	sync.Mutex
	byPath map[string]*packing
}

// pack packs PATH.1 if it is there, in the background.
func pack(path string) *packing {
	packings.Lock()
	defer packings.Unlock()
	if p := packings.byPath[path]; p != nil {
		return p
	}
	from := numbered(path, 1)
	if !exists(from) {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &packing{cancel, make(chan struct{})}
	if packings.byPath == nil {
		packings.byPath = make(map[string]*packing)
	}
	packings.byPath[path] = p
	go func() {
		defer close(p.done)
		defer cancel()
		// What cannot be packed stays as it is, which readers understand too.
		_ = packFile(ctx, from)
		packings.Lock()
		defer packings.Unlock()
		delete(packings.byPath, path)
	}()
	return p
}

func (p *packing) wait() {
	if p != nil {
		<-p.done
	}
}

func (p *packing) stop() {
	if p != nil {
		p.cancel()
		<-p.done
	}
}

// packingSuffix and a process ID are behind the name of a file that is being packed.
const packingSuffix = ".packing."

// removeStale removes what a crash has left of packing the file.
func removeStale(path string) error {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), base+packingSuffix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}

// packFile replaces the file by a packed one; a crash leaves either whole.
func packFile(ctx context.Context, path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	fi, err := from.Stat()
	if err != nil {
		return err
	}
	if err := removeStale(path); err != nil {
		return err
	}
	// Two processes have each its own, while the one hands over to the other.
	to, err := os.OpenFile(path+packingSuffix+strconv.Itoa(os.Getpid()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(to.Name()))
		}
	}()
	z := gzip.NewWriter(to)
	z.Comment = identity(fi)
	_, err = io.Copy(z, untilDone{ctx, from})
	if err = errors.Join(err, z.Close(), to.Close()); err != nil {
		return err
	}
	if err = os.Rename(to.Name(), path+packed); err != nil {
		return err
	}
	return os.Remove(path)
}

// untilDone reads until the context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}
