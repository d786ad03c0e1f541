package relay

import (
	"time"

	"github.com/fairlead/fairlead/kernel/socket"
)

// againAfter is between two tries to have a socket listen again whose port another
// program took.
const againAfter = time.Second

// revive has a port listen again whose socket somebody ended from outside (`ss -K`);
// connections that it accepted before are theirs who have them. The caller has mu.
func (t *table) revive(p *port) {
	if p.Proto != "tcp" || socket.Listening(p.fd) {
		return
	}
	err := socket.ListenAgain(p.fd)
	if err == nil {
		p.revived++
		t.logger.Warn("somebody ended the socket of a held port; it listens again", "port", p.Binding)
		return
	}
	t.logger.Error("somebody ended the socket of a held port, and it cannot listen again yet", "port", p.Binding, "err", err)
	if !p.Proxy {
		return // it is looked at again with the list
	}
	// It would be reported all the time.
	if err := t.poller.remove(p.fd); err != nil {
		t.logger.Error("let go of a port", "port", p.Binding, "err", err)
		return
	}
	time.AfterFunc(againAfter, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ports[p.key] != p || !p.Proxy {
			return
		}
		if err := t.poller.add(p.fd, p.key); err != nil {
			t.logger.Error("hold a port again", "port", p.Binding, "err", err)
			return
		}
		t.revive(p)
	})
}
