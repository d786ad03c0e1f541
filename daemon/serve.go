package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/internal/spawn"
)

// drainTime is how long requests under way get when the daemon stops.
const drainTime = 5 * time.Second

const (
	// memoryTime is how long after its start the daemon looks to its memory: clients
	// that come with it are not kept waiting.
	memoryTime = time.Second
	// garbage is how much of it the daemon has, in percent of what is in use.
	garbage = 25
	// startGarbage is the same until then: most of what a start reads it needs once, and
	// who waits for it is not to wait for its collection.
	startGarbage = 200
)

// saveMemory gives back what the start took.
func (d *daemon) saveMemory() {
	if err := spawn.SaveMemory(garbage); err != nil {
		d.log.Warn("memory that the start took is not given back", "operation", "start", "err", err)
	}
}

// serve answers the API until a signal, or a teardown, ends it; another has it read
// its configuration anew.
func (d *daemon) serve(ctx context.Context, secure *tls.Config, hangup <-chan os.Signal) error {
	listeners, err := listen(&d.cfg, secure)
	if err != nil {
		return err
	}
	if err := d.serveMetrics(ctx); err != nil {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	server := &http.Server{
		Handler:           api.New(d.engine, api.Options{Version: d.build.Version, Commit: d.build.Commit, Log: d.log, Teardown: d.teardownByAPI, Views: views{d}, Captures: &captures{daemon: d}, Metrics: d.metrics.Handler(d.log), KnownHost: certified(secure)}),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		d.log.Info("serving the API", "address", l.host)
		if strings.HasPrefix(l.host, "tcp://") && !d.cfg.verifies() {
			d.log.Warn("whoever reaches this address is root on this machine; give --tlsverify", "address", l.host)
		}
		go func() { failed <- server.Serve(l) }()
	}
	notify("READY=1")
	defer time.AfterFunc(memoryTime, d.saveMemory).Stop()
	err = d.untilEnd(ctx, failed, hangup)
	notify("STOPPING=1")
	d.log.Info("stopping", "live_restore", d.cfg.LiveRestore)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if server.Shutdown(drain) != nil {
		_ = server.Close()
	}
	for _, l := range listeners {
		if l.path != "" {
			_ = os.Remove(l.path)
		}
	}
	if !d.cfg.LiveRestore && !d.tornDown {
		err = errors.Join(err, d.engine.StopAll(context.WithoutCancel(ctx)))
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// untilEnd waits for the end, and reloads when it is told to. The end does not wait for
// a configuration that cannot be read, on a file system that hangs.
func (d *daemon) untilEnd(ctx context.Context, failed <-chan error, hangup <-chan os.Signal) error {
	read := make(chan func(), 1)
	load := func() {
		fresh, err := d.load()
		read <- func() { d.reload(fresh, err) }
	}
	for reading, again := false, false; ; {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		case <-hangup:
			if again = reading; !reading {
				notify("RELOADING=1")
				reading = true
				go load()
			}
		case reload := <-read:
			reload()
			if reading = again; again {
				again = false
				go load()
				continue
			}
			notify("READY=1")
		}
	}
}
