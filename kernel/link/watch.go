package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
)

// watchBuffer, in bytes, holds the events of a few thousand links; should it
// overflow, the links are read instead.
const watchBuffer = 4 << 20

// siocgskns of linux/sockios.h opens the namespace of a socket.
const siocgskns = 0x894c

// Watcher tells when links are gone, from the kernel's events.
type Watcher struct {
	h    *Handle
	c    *conn
	file *os.File
	raw  syscall.RawConn

	mu      sync.Mutex
	waiting map[string]wait
}

// wait is somebody's interest in one link, known by its index lest a later link
// of the same name be meant.
type wait struct {
	index int
	gone  chan struct{}
}

// Watch begins to watch the handle's namespace, until ctx is done or the handle's
// socket fails. One watcher serves any number of links.
func (h *Handle) Watch(ctx context.Context) (*Watcher, error) {
	h.c.mu.Lock()
	fd, err := unix.IoctlRetInt(h.c.fd, siocgskns)
	h.c.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("find the namespace of an rtnetlink socket: %w", err)
	}
	ns := os.NewFile(uintptr(fd), "of the link handle")
	defer ns.Close()
	w := &Watcher{h: h, waiting: map[string]wait{}}
	if err := netns.Do(ns, w.subscribe); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.Close() })
	go func() {
		defer stop()
		w.run()
	}()
	return w, nil
}

// subscribe opens the event socket, to be waited on by the runtime's poller.
func (w *Watcher) subscribe() error {
	c, err := dial(unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer),
		unix.SetNonblock(c.fd, true))
	if err != nil {
		return errors.Join(fmt.Errorf("set up link events: %w", err), c.close())
	}
	w.c, w.file = c, os.NewFile(uintptr(c.fd), "link events")
	w.raw, err = w.file.SyscallConn()
	return err
}

// Gone returns a channel that is closed when the link of that name is gone from
// the namespace; at once if there is none. Ask before the link is taken down, then
// wait with a deadline: a watcher that has ended closes nothing.
func (w *Watcher) Gone(name string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Under the lock, so that the link's event cannot pass between.
	l, err := w.h.get(name)
	if errdefs.IsNotFound(err) {
		w.release(name)
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	if have, ok := w.waiting[name]; ok && have.index == l.Index {
		return have.gone
	}
	w.release(name) // an earlier link of the name
	w.waiting[name] = wait{index: l.Index, gone: make(chan struct{})}
	return w.waiting[name].gone
}

// release tells those who wait for the link.
func (w *Watcher) release(name string) {
	if have, ok := w.waiting[name]; ok {
		close(have.gone)
		delete(w.waiting, name)
	}
}

func (w *Watcher) run() {
	defer w.file.Close()
	for {
		packets, err := w.next()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			w.reread()
		case err != nil:
			return
		}
		w.mu.Lock()
		for _, p := range packets {
			l, ok := parseLink(p)
			if ok && p.typ == unix.RTM_DELLINK && w.waiting[l.Name].index == l.Index {
				w.release(l.Name)
			}
		}
		w.mu.Unlock()
	}
}

// next waits for events. The poller's Read returns when the file is closed.
func (w *Watcher) next() (packets []packet, err error) {
	failed := w.raw.Read(func(uintptr) bool {
		packets, err = w.c.receive()
		return !errors.Is(err, unix.EAGAIN)
	})
	return packets, errors.Join(failed, err)
}

// reread makes up for lost events.
func (w *Watcher) reread() {
	w.mu.Lock()
	defer w.mu.Unlock()
	links, err := w.h.Links()
	if err != nil {
		return
	}
	there := map[int]bool{}
	for _, l := range links {
		there[l.Index] = true
	}
	for name, have := range w.waiting {
		if !there[have.index] {
			w.release(name)
		}
	}
}

// WaitGone waits until the namespace has no link of that name, by a watcher that
// the handle keeps. When the link may be gone before the call, ask Watcher.Gone
// first.
func (h *Handle) WaitGone(ctx context.Context, name string) error {
	w, err := h.shared()
	if err != nil {
		return err
	}
	select {
	case <-w.Gone(name):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait until link %s is gone: %w", name, ctx.Err())
	}
}

// shared returns the handle's own watcher, which ends with the handle.
func (h *Handle) shared() (*Watcher, error) {
	h.watching.Lock()
	defer h.watching.Unlock()
	if h.watcher == nil {
		ctx, stop := context.WithCancel(context.Background())
		w, err := h.Watch(ctx)
		if err != nil {
			stop()
			return nil, err
		}
		h.watcher, h.stop = w, stop
	}
	return h.watcher, nil
}
