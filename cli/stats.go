package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
)

// statsRefresh is how often the screen is drawn, as docker's.
const statsRefresh = 500 * time.Millisecond

// statsFirst is how long the first figures of all containers are waited for.
const statsFirst = 3 * time.Second

type statsFlags struct {
	all, noStream, noTrunc bool
	format                 string
}

func (a *app) statsCommand() *cobra.Command {
	var f statsFlags
	cmd := &cobra.Command{
		Use:   "stats [OPTIONS] [CONTAINER...]",
		Short: "Show what containers use of the host, as it changes",
		Example: `  fairlead stats                           those that run, until interrupted
  fairlead stats --no-stream web db        once
  fairlead stats --no-stream --format '{{.Name}} {{.MemUsage}}'`,
		ValidArgsFunction: a.complete(0, listContainers(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.format = a.ownFormat(f.format, false, func(file *configfile.ConfigFile) string { return file.StatsFormat })
			if _, err := format.Template(f.format); err != nil {
				return usageError{err}
			}
			return a.with(func(c *client.Client) error { return a.stats(cmd.Context(), c, f, args) })
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "those that do not run, too")
	cmd.Flags().BoolVar(&f.noStream, "no-stream", false, "print once")
	cmd.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten IDs")
	tableFlag(cmd, &f.format)
	return cmd
}

// meter keeps the last figures of one container. An error stays until figures come.
type meter struct {
	name   string
	cancel context.CancelFunc

	mu      sync.Mutex
	figures *container.StatsResponse
	err     error
	gone    bool
	first   chan struct{} // closed when there is something to show
	once    sync.Once
}

func (m *meter) set(figures *container.StatsResponse, err error, gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if figures != nil {
		m.figures = figures
	}
	m.err, m.gone = err, gone
	m.once.Do(func() { close(m.first) })
}

// follow reads figures until the container or ctx ends; once reads one.
func (m *meter) follow(ctx context.Context, c *client.Client, stream bool) {
	got, err := c.ContainerStats(ctx, m.name, client.ContainerStatsOptions{Stream: stream, IncludePreviousSample: !stream})
	if err != nil {
		m.set(nil, err, errdefs.IsNotFound(err))
		return
	}
	defer func() { _ = got.Body.Close() }()
	for dec := json.NewDecoder(got.Body); ; {
		var figures container.StatsResponse
		if err := dec.Decode(&figures); err != nil {
			m.set(nil, err, errors.Is(err, io.EOF))
			return
		}
		m.set(&figures, nil, false)
		if !stream {
			return
		}
	}
}

// meters are those shown, in the order they came.
type meters struct {
	mu  sync.Mutex
	all []*meter
}

func (ms *meters) add(ctx context.Context, c *client.Client, name string, stream bool) *meter {
	ctx, cancel := context.WithCancel(ctx)
	m := &meter{name: name, cancel: cancel, first: make(chan struct{})}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, other := range ms.all {
		if other.name == name {
			cancel()
			return other
		}
	}
	ms.all = append(ms.all, m)
	go m.follow(ctx, c, stream)
	return m
}

func (ms *meters) remove(name string) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.all = slices.DeleteFunc(ms.all, func(m *meter) bool {
		if m.name == name {
			m.cancel()
		}
		return m.name == name
	})
}

func (ms *meters) rows(noTrunc bool) (rows []statsRow, errs []error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		m.mu.Lock()
		rows = append(rows, newStatsRow(m.name, m.figures, noTrunc))
		if m.err != nil && !errors.Is(m.err, io.EOF) && !errors.Is(m.err, context.Canceled) {
			errs = append(errs, m.err)
		}
		m.mu.Unlock()
	}
	return rows, errs
}

func (ms *meters) await(ctx context.Context) {
	ms.mu.Lock()
	all := slices.Clone(ms.all)
	ms.mu.Unlock()
	patience := time.NewTimer(statsFirst)
	defer patience.Stop()
	for _, m := range all {
		select {
		case <-m.first:
		case <-patience.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (a *app) stats(ctx context.Context, c *client.Client, f statsFlags, names []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ms meters
	var gone <-chan error
	if len(names) == 0 {
		var err error
		if gone, err = ms.followAll(ctx, c, f); err != nil {
			return err
		}
	}
	for _, name := range names {
		ms.add(ctx, c, name, !f.noStream)
	}
	ms.await(ctx)
	// A name that is not there is an error at once, as docker's.
	rows, errs := ms.rows(f.noTrunc)
	if len(names) > 0 && len(errs) > 0 {
		return errors.Join(errs...)
	}
	if f.noStream {
		return statsListing.Write(a.Out, f.format, rows)
	}
	tick := time.NewTicker(statsRefresh)
	defer tick.Stop()
	for {
		rows, _ := ms.rows(f.noTrunc)
		if err := a.drawStats(f.format, rows); err != nil {
			return err
		}
		if len(names) > 0 && ms.ended() {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-gone:
			return eventsEnd(err)
		case <-ctx.Done():
			return nil // interrupted: that is how it ends
		}
	}
}

// ended says whether no container that is shown can have further figures.
func (ms *meters) ended() bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		m.mu.Lock()
		alive := m.err == nil && !m.gone
		m.mu.Unlock()
		if alive {
			return false
		}
	}
	return true
}

// drawStats draws over what was drawn before where the output is a terminal.
func (a *app) drawStats(spec string, rows []statsRow) error {
	var text bytes.Buffer
	if err := statsListing.Write(&text, spec, rows); err != nil {
		return err
	}
	if _, _, terminal := a.terminalSize(); terminal {
		lines := bytes.ReplaceAll(text.Bytes(), []byte("\n"), []byte("\x1b[K\n"))
		_, err := fmt.Fprintf(a.Out, "\x1b[H%s\x1b[J", lines)
		return err
	}
	_, err := a.Out.Write(text.Bytes())
	return err
}

// followAll adds what runs, and what comes and goes meanwhile. The channel says when
// the daemon can no longer be heard.
func (ms *meters) followAll(ctx context.Context, c *client.Client, f statsFlags) (<-chan error, error) {
	var gone <-chan error
	if !f.noStream {
		kinds := client.Filters{}.Add("type", string(events.ContainerEventType))
		stream := c.Events(ctx, client.EventsListOptions{Filters: kinds})
		gone = stream.Err
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case m := <-stream.Messages:
					ms.happened(ctx, c, m, f.all)
				}
			}
		}()
	}
	got, err := c.ContainerList(ctx, client.ContainerListOptions{All: f.all})
	if err != nil {
		return nil, err
	}
	for _, item := range got.Items {
		ms.add(ctx, c, item.ID, !f.noStream)
	}
	return gone, nil
}

func (ms *meters) happened(ctx context.Context, c *client.Client, m events.Message, all bool) {
	switch m.Action {
	case events.ActionStart:
		ms.remove(m.Actor.ID)
		ms.add(ctx, c, m.Actor.ID, true)
	case events.ActionCreate:
		if all {
			ms.add(ctx, c, m.Actor.ID, true)
		}
	case events.ActionDie:
		if !all {
			ms.remove(m.Actor.ID)
		}
	case events.ActionDestroy:
		ms.remove(m.Actor.ID)
	}
}
