package event

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSource: events come out in order; where nobody reads, nobody waits, and what is
// dropped is counted once.
func TestSource(t *testing.T) {
	t.Parallel()
	s := NewSource()
	for i := range kept + 3 {
		s.Tell("healing", "mend", strconv.Itoa(i), "kind", "bridge", "odd")
	}
	for i := range kept {
		want := Event{"healing", "mend", strconv.Itoa(i), map[string]string{"kind": "bridge"}}
		if diff := cmp.Diff(want, <-s.Events()); diff != "" {
			t.Fatal(diff)
		}
	}
	if first, then := s.Lost(), s.Lost(); first != 3 || then != 0 {
		t.Errorf("%d lost, then %d", first, then)
	}
	s.Tell("healing", "pause", "")
	if e := <-s.Events(); e.Action != "pause" {
		t.Error(e)
	}
	var none *Source
	none.Tell("healing", "mend", "x")
	if none.Events() != nil || none.Lost() != 0 {
		t.Error("there is nothing to hear of nobody")
	}
}
