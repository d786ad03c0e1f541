// Package lines cuts what a container writes into the entries of its log.
//
// It knows bytes and the names of streams; where entries go is others' concern.
package lines

import (
	"bytes"
	"unicode/utf8"
)

// Max is how much of a line one entry holds, in bytes, as in Docker; a longer
// line goes on in further entries, of which only the last ends in a newline.
const Max = 16 << 10

// Splitter keeps, by stream, the line that has no end yet. The zero value is
// ready; it is not safe for use by several goroutines at once.
type Splitter struct{ pending map[string][]byte }

// Split calls emit for each entry that is complete with this output of the
// stream: whole lines with their newline, and pieces of long ones. The text is
// only good until emit returns.
func (s *Splitter) Split(stream string, output []byte, emit func(text []byte)) {
	rest := output
	if len(s.pending[stream]) > 0 {
		s.pending[stream] = append(s.pending[stream], output...)
		rest = s.pending[stream]
	}
	for {
		n := next(rest)
		if n == 0 {
			break
		}
		emit(rest[:n])
		rest = rest[n:]
	}
	if s.pending == nil {
		s.pending = make(map[string][]byte)
	}
	s.pending[stream] = append(s.pending[stream][:0], rest...)
}

// next is the length of the next entry, 0 if it has not all arrived.
func next(b []byte) int {
	if i := bytes.IndexByte(b[:min(len(b), Max)], '\n'); i >= 0 {
		return i + 1
	}
	if len(b) < Max {
		return 0
	}
	// Not through the middle of a character.
	n := Max
	for back := 1; back < utf8.UTFMax; back++ {
		if utf8.RuneStart(b[n-back]) {
			if !utf8.FullRune(b[n-back : n]) {
				n -= back
			}
			break
		}
	}
	return n
}

// End returns what waits for the end of its line, which will not come: the
// stream has ended.
func (s *Splitter) End(stream string) []byte {
	rest := s.pending[stream]
	delete(s.pending, stream)
	return rest
}

// Pending returns copies of what waits for the end of its line, by stream, for
// another Splitter to go on with.
func (s *Splitter) Pending() map[string][]byte {
	out := make(map[string][]byte, len(s.pending))
	for stream, p := range s.pending {
		if len(p) > 0 {
			out[stream] = bytes.Clone(p)
		}
	}
	return out
}

// Restore goes on with another Splitter's Pending.
func (s *Splitter) Restore(pending map[string][]byte) {
	if s.pending == nil {
		s.pending = make(map[string][]byte)
	}
	for stream, p := range pending {
		s.pending[stream] = bytes.Clone(p)
	}
}
