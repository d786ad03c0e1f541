package relay

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dns"
)

// Of the resolvers the sockets are handed over, and what they were told. What
// waits for an answer of others, and TCP connections, stay with the predecessor,
// who answers by its own copies of the sockets. The cache begins anew.

// resolverState is what goes to a successor; two descriptors for each sandbox.
type resolverState struct {
	Sandboxes []dns.Sandbox `json:"sandboxes,omitempty"`
	Host      HostFiles     `json:"host,omitzero"`
}

// snapshot is what a successor needs, with our own descriptors.
func (t *resolvers) snapshot() (resolverState, []int) {
	st := resolverState{Host: t.host.following()}
	told := t.dns.Sandboxes()
	t.mu.Lock()
	defer t.mu.Unlock()
	var fds []int
	for _, s := range told {
		if v := t.owners[s.ID]; v != nil && !v.gone {
			st.Sandboxes = append(st.Sandboxes, s)
			fds = append(fds, v.udp, v.tcp)
		}
	}
	return st, fds
}

// adopt takes over what snapshot returned; the descriptors are ours, whatever it
// returns.
func (t *resolvers) adopt(st resolverState, fds []int) error {
	// Nobody is answered before everything is known.
	err := t.followHost(st.Host)
	t.introduce(st.Sandboxes)
	for i, s := range st.Sandboxes {
		// Whoever mends the difference opens others.
		if err := t.serve(s, fds[2*i], fds[2*i+1]); err != nil {
			t.logger.Warn("a container's resolver cannot be taken over", "container", s.ID, "err", err)
		}
	}
	return err
}

// abandon leaves the sockets to the successor and ends the loop. What is live is
// carried on; a later release still ends it.
func (t *resolvers) abandon() error {
	t.mu.Lock()
	errs := []error{t.poller.close()}
	t.served = make(map[uint64]*served)
	all := make([]*served, 0, len(t.owners))
	for _, v := range t.owners {
		all = append(all, v)
	}
	t.mu.Unlock()
	t.thaw()
	for _, v := range all {
		t.left.Go(func() {
			v.live.Wait()
			if err := v.close(); err != nil && !errors.Is(err, unix.EBADF) {
				t.logger.Warn("close a resolver's sockets", "container", v.id, "err", err)
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.owners[v.id] == v {
				delete(t.owners, v.id)
			}
		})
	}
	return errors.Join(errs...)
}

// drain waits for the queries that were here at the handover.
func (t *resolvers) drain(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		t.left.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
