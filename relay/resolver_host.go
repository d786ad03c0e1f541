package relay

import (
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/kernel/inotify"
)

// hostWatch follows the host's name servers.
type hostWatch struct {
	mu      sync.Mutex
	files   HostFiles
	watcher *inotify.Watcher
	stop    chan struct{}
	done    sync.WaitGroup
}

// followHost reads the host's servers, and again whenever the files change.
func (t *resolvers) followHost(files HostFiles) error {
	t.host.mu.Lock()
	defer t.host.mu.Unlock()
	if t.host.watcher != nil && t.host.files == files {
		return nil
	}
	if err := t.host.end(); err != nil {
		return err
	}
	t.host.files = files
	if files == (HostFiles{}) {
		return nil
	}
	watcher, err := inotify.Watch(files.ResolvConf, files.Uplinks)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	t.host.watcher, t.host.stop = watcher, stop
	t.readHost(files)
	t.host.done.Go(func() {
		for {
			select {
			case <-watcher.Changed():
				t.readHost(files)
			case <-stop:
				return
			}
		}
	})
	return nil
}

// readHost keeps to what it knew where a file cannot be read now. One that is not
// there says that the host has no servers.
func (t *resolvers) readHost(files HostFiles) {
	conf, err := readIfThere(files.ResolvConf)
	uplinks, uplinksErr := readIfThere(files.Uplinks)
	if err := errors.Join(err, uplinksErr); err != nil {
		t.logger.Warn("the host's name servers cannot be read", "err", err)
		return
	}
	was, now := t.dns.Upstreams(), dns.HostServers(conf, uplinks)
	was.Servers, now = now, was.Servers
	t.dns.SetUpstreams(was)
	t.logger.Debug("the host's name servers", "servers", was.Servers, "before", now)
}

func readIfThere(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// end stops following; mu is held.
func (h *hostWatch) end() error {
	if h.watcher == nil {
		return nil
	}
	close(h.stop)
	h.done.Wait()
	err := h.watcher.Close()
	h.watcher = nil
	return err
}

func (h *hostWatch) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.end()
}

func (h *hostWatch) following() HostFiles {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.files
}
