package relay

import (
	"errors"
	"os"
	"sync"
)

// loop serves many sockets by one goroutine, and stands still while they are handed
// to a successor.
type loop struct {
	poller *poller
	// mu also covers the use of the sockets, so that none is closed while the
	// loop is at it.
	mu     sync.Mutex
	frozen bool
	thawed chan struct{} // closed when frozen ends
}

// serveReady calls ready with the key of each socket that is readable, until the
// poller is closed.
func (l *loop) serveReady(ready func(key uint64)) error {
	for {
		if err := l.poller.wait(ready); err != nil {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return err
		}
		l.mu.Lock()
		frozen, thawed := l.frozen, l.thawed
		l.mu.Unlock()
		if frozen {
			<-thawed
		}
	}
}

// freeze pauses the loop; while it is frozen, changes are refused.
func (l *loop) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen {
		l.frozen, l.thawed = true, make(chan struct{})
	}
}

func (l *loop) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen {
		l.frozen = false
		close(l.thawed)
	}
}

func (l *loop) isFrozen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.frozen
}
