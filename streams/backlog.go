package streams

import (
	"encoding/binary"
	"time"
)

// What waits for a client is in memory first, and then on disk; what is on disk
// comes after all that is in memory.

// send queues output; where there is no room for it, it waits until the writer has
// made some or given the client up.
func (a *attachment) send(code byte, b []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.full(len(b)) && !a.lifted && !a.dead && !a.finishing && !a.frozen {
		if time.Since(a.progress) >= a.stream.stall {
			a.giveUp()
			return
		}
		a.cond.Wait()
	}
	if a.dead || a.finishing {
		return
	}
	if !a.spec.Terminal {
		header := append(make([]byte, 0, 8+len(b)), code, 0, 0, 0)
		b = append(binary.BigEndian.AppendUint32(header, uint32(len(b))), b...)
	}
	a.enqueue(b)
	a.cond.Broadcast()
}

// full says whether there is no room for n bytes of output and their header; a.mu
// is held.
func (a *attachment) full(n int) bool {
	switch {
	case a.spool.size() == 0 && len(a.queue) < queueLimit:
		return false
	case a.spool == nil && !a.noSpool:
		dir, open := a.stream.spoolDir()
		if !open {
			return true // there is no output yet
		}
		if a.noSpool = dir == ""; a.noSpool {
			return true
		}
		var err error
		if a.spool, err = newSpool(dir); err == nil {
			return false
		}
		a.noSpool = true
		a.stream.logger.Warn("output of a slow client waits in memory alone", "container", a.stream.id, "err", err)
	}
	return a.noSpool || a.spool.size()+int64(n)+8 > a.spool.limit-spoolReserve
}

// enqueue puts output behind what waits; a.mu is held.
func (a *attachment) enqueue(b []byte) {
	if a.spool.size() == 0 && (len(a.queue) < queueLimit || a.full(len(b))) {
		a.queue = append(a.queue, b...)
		return
	}
	if a.spool.size()+int64(len(b)) > a.spool.limit { // the reserve was too small
		a.unspool(int(a.spool.size()))
		a.queue = append(a.queue, b...)
		return
	}
	if err := a.spool.add(b); err != nil {
		a.stream.logger.Error("a client's output is lost, dropping the client", "container", a.stream.id, "err", err)
		a.kill()
	}
}

// unspool moves at least n bytes, or all there is, from disk to memory; a.mu is
// held.
func (a *attachment) unspool(n int) {
	for n > 0 && a.spool.size() > 0 {
		b, err := a.spool.take(n)
		a.queue = append(a.queue, b...)
		n -= len(b)
		if err != nil {
			a.stream.logger.Error("a client's output is lost, dropping the client", "container", a.stream.id, "err", err)
			a.kill()
			return
		}
	}
}

// giveUp drops a client that takes nothing; a.mu is held.
func (a *attachment) giveUp() {
	a.stream.logger.Warn("an attached client takes no output, dropping it", "container", a.stream.id, "queued", int64(len(a.queue))+a.spool.size())
	a.kill()
}
