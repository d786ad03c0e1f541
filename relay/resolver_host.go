package relay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/kernel/inotify"
	"github.com/fairlead/fairlead/kernel/resolved"
)

// hostWatch follows the host's name servers.
type hostWatch struct {
	mu      sync.Mutex
	files   HostFiles
	watcher *inotify.Watcher
	stop    chan struct{}
	done    sync.WaitGroup
	// closing are watchers that are not used any more: the kernel takes some 10 ms to let
	// go of one (a grace period of SRCU, fsnotify_destroy_group), which nobody waits for.
	closing sync.WaitGroup
	// bus is follow's while that runs.
	bus *resolved.Conn
}

// followHost reads the host's servers, and again whenever the files change. Told the
// same files again it reads them again: a watch does not tell of everything, such as of
// what is mounted over them.
func (t *resolvers) followHost(files HostFiles) error {
	t.host.mu.Lock()
	defer t.host.mu.Unlock()
	t.host.end()
	t.host.files = files
	if files == (HostFiles{}) {
		return t.host.hangUp()
	}
	paths := slices.DeleteFunc([]string{files.ResolvConf, files.Uplinks}, func(p string) bool { return p == "" })
	watcher, err := inotify.Watch(paths...)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	t.host.watcher, t.host.stop = watcher, stop
	t.readHost(files, t.host.bus)
	t.host.done.Go(func() { t.follow(files, watcher, stop) })
	return nil
}

// busTime bounds a question to the bus, busRetry how soon one that is gone is looked
// for again.
const (
	busTime  = 3 * time.Second
	busRetry = 10 * time.Second
)

// follow reads the host's servers whenever something may have changed.
func (t *resolvers) follow(files HostFiles, watcher *inotify.Watcher, stop <-chan struct{}) {
	var changed <-chan struct{} // nil without a bus
	if t.host.bus != nil {
		changed = t.host.bus.Changed()
	}
	retry := time.NewTicker(busRetry)
	defer retry.Stop()
	for {
		if t.host.bus == nil {
			ctx, cancel := context.WithTimeout(context.Background(), busTime)
			if conn, err := resolved.Dial(ctx); err == nil {
				t.host.bus, changed = conn, conn.Changed()
				t.readHost(files, conn)
			}
			cancel()
		}
		select {
		case <-watcher.Changed():
		case _, there := <-changed:
			if !there {
				_ = t.host.hangUp()
				changed = nil
			}
		case <-retry.C:
			continue // for the bus, where it is gone
		case <-stop:
			return
		}
		t.readHost(files, t.host.bus)
	}
}

// readHost keeps to what it knew where a file cannot be read now. One that is not
// there says that the host has no servers.
func (t *resolvers) readHost(files HostFiles, bus *resolved.Conn) {
	conf, err := readIfThere(files.ResolvConf)
	uplinks, uplinksErr := readIfThere(files.Uplinks)
	if err := errors.Join(err, uplinksErr); err != nil {
		t.logger.Warn("the host's name servers cannot be read", "err", err)
		return
	}
	now := dns.Upstreams{Servers: dns.HostServers(conf, uplinks)}
	if bus != nil {
		ctx, cancel := context.WithTimeout(context.Background(), busTime)
		defer cancel()
		routes, err := bus.Routes(ctx)
		if err != nil {
			t.logger.Warn("the host's domains with servers of their own cannot be read", "err", err)
		}
		for _, r := range routes {
			now.Routes = append(now.Routes, dns.Route{Domain: r.Domain, Servers: r.Servers})
		}
	}
	t.dns.SetUpstreams(now)
	t.logger.Debug("the host's name servers", "servers", now.Servers, "routes", now.Routes)
}

func readIfThere(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// end stops following; mu is held.
func (h *hostWatch) end() {
	if h.watcher == nil {
		return
	}
	close(h.stop)
	h.done.Wait()
	watcher := h.watcher
	h.watcher = nil
	// It has nothing to write, so that closing it cannot fail.
	h.closing.Go(func() { _ = watcher.Close() })
}

func (h *hostWatch) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end()
	h.closing.Wait()
	return h.hangUp()
}

// hangUp lets go of the bus; follow does not run, or is who calls it.
func (h *hostWatch) hangUp() error {
	if h.bus == nil {
		return nil
	}
	err := h.bus.Close()
	h.bus = nil
	return err
}

func (h *hostWatch) following() HostFiles {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.files
}
