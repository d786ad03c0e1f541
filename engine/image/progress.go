package image

import (
	"sync"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// progressTime is how often what changed is told, as often as Docker does.
const progressTime = 100 * time.Millisecond

// teller passes progress on, one message at a time.
type teller struct {
	mu   sync.Mutex
	pass func(jsonstream.Message)
}

// tell has the status of something with an ID, or of all without. detail is nil where
// the status stands on a line of its own, as clients show it.
func (t *teller) tell(id, status string, detail *jsonstream.Progress) {
	t.send(jsonstream.Message{ID: id, Status: status, Progress: detail})
}

func (t *teller) send(m jsonstream.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pass != nil {
		t.pass(m)
	}
}

// step is a status that has no numbers.
func (t *teller) step(l ocispec.Descriptor, status string) {
	t.tell(shortDigest(l), status, &jsonstream.Progress{})
}

// shortDigest is what a layer is called in progress.
func shortDigest(d ocispec.Descriptor) string {
	return d.Digest.Encoded()[:min(12, len(d.Digest.Encoded()))]
}
