package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/metrics"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
)

// metricsSettings say where metrics can be had beside the API's sockets.
type metricsSettings struct {
	MetricsAddr string `json:"metrics-addr"`
}

func (s *metricsSettings) register(f *pflag.FlagSet) {
	f.StringVar(&s.MetricsAddr, "metrics-addr", "", "serve Prometheus metrics at http://HOST:PORT/metrics too, to everybody who reaches it: 127.0.0.1:9323, say")
}

// check refuses what nobody could listen on.
func (s *metricsSettings) check() error {
	if s.MetricsAddr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(s.MetricsAddr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("--metrics-addr %q: want HOST:PORT, such as 127.0.0.1:9323", s.MetricsAddr)
	}
	return nil
}

// serveMetrics serves them by TCP, where that is wanted, until ctx ends.
func (d *daemon) serveMetrics(ctx context.Context) error {
	if d.cfg.MetricsAddr == "" {
		return nil
	}
	l, err := net.Listen("tcp", d.cfg.MetricsAddr)
	if err != nil {
		return fmt.Errorf("--metrics-addr %s: %w", d.cfg.MetricsAddr, err)
	}
	d.log.Info("serving metrics", "address", "http://"+l.Addr().String()+"/metrics")
	if at, err := netip.ParseAddrPort(l.Addr().String()); err == nil && !at.Addr().Unmap().IsLoopback() {
		d.log.Warn("whoever reaches this address can read the metrics, containers too; give --metrics-addr an address of loopback", "address", l.Addr().String())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler(d.log))
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("metrics are served no more by --metrics-addr", "operation", "metrics", "err", err)
		}
	}()
	return nil
}

// measured is what metrics are made of. What cannot be read is left out.
func (d *daemon) measured(ctx context.Context) metrics.Reading {
	m, stored := d.network.Measured(), d.store.Counters()
	r := metrics.Reading{
		Containers: make(map[string]int), Restored: d.restored.Seconds(),
		Healed: m.Healed, Paused: m.Paused, Surveys: m.Surveys, Unended: m.Unended, Records: m.Records,
		Writes: stored.Writes, Commits: stored.Commits, Helpers: make(map[string]metrics.Process),
	}
	for state, n := range d.engine.States() {
		r.Containers[string(state)] = n
	}
	r.Networks = d.measuredNetworks()
	if dropped, err := d.network.Dropped(); err == nil {
		r.Dropped = make(map[string]metrics.Dropped, len(dropped.Reasons))
		for reason, n := range dropped.Reasons {
			r.Dropped[reason] = metrics.Dropped{Packets: n.Packets, Bytes: n.Bytes}
		}
	}
	if counters, err := d.relay.Counters(ctx); err == nil {
		r.Relay = &counters
	}
	for name, u := range d.helpers() {
		r.Helpers[name] = metrics.Process{Memory: float64(u.Memory), Seconds: u.CPU}
	}
	return r
}

func (d *daemon) measuredNetworks() []metrics.Network {
	on := make(map[string]int)
	for _, a := range d.network.Attachments() {
		for _, e := range a.Endpoints {
			on[e.NetworkID]++
		}
	}
	var out []metrics.Network
	for _, n := range d.network.Networks() {
		one := metrics.Network{Name: n.Name, Endpoints: on[n.ID], Families: make(map[string]metrics.Addresses)}
		for family, v4 := range map[string]bool{"ipv4": true, "ipv6": false} {
			if used, free, has := d.network.UsageByFamily(n, v4); has {
				one.Families[family] = metrics.Addresses{InUse: used, Available: free}
			}
		}
		out = append(out, one)
	}
	return out
}

// timedNetwork takes the time of the operations that users wait for.
type timedNetwork struct {
	*network.Controller
	metrics *metrics.Metrics
}

// Attach is the controller's.
func (t timedNetwork) Attach(ctx context.Context, req spec.AttachRequest) (spec.Attachment, error) {
	begun := time.Now()
	a, err := t.Controller.Attach(ctx, req)
	t.metrics.Ended(metrics.Attach, begun, err)
	return a, err
}

// Detach is the controller's.
func (t timedNetwork) Detach(ctx context.Context, sandboxID string) error {
	begun := time.Now()
	err := t.Controller.Detach(ctx, sandboxID)
	t.metrics.Ended(metrics.Detach, begun, err)
	return err
}

// Connect is the controller's.
func (t timedNetwork) Connect(ctx context.Context, sandboxID string, req spec.EndpointRequest) (spec.Attachment, error) {
	begun := time.Now()
	a, err := t.Controller.Connect(ctx, sandboxID, req)
	t.metrics.Ended(metrics.Connect, begun, err)
	return a, err
}

// Disconnect is the controller's.
func (t timedNetwork) Disconnect(ctx context.Context, sandboxID, name string) (spec.Attachment, error) {
	begun := time.Now()
	a, err := t.Controller.Disconnect(ctx, sandboxID, name)
	t.metrics.Ended(metrics.Disconnect, begun, err)
	return a, err
}

// CreateNetwork is the controller's.
func (t timedNetwork) CreateNetwork(ctx context.Context, req spec.NetworkRequest) (spec.Network, error) {
	begun := time.Now()
	n, err := t.Controller.CreateNetwork(ctx, req)
	t.metrics.Ended(metrics.CreateNetwork, begun, err)
	return n, err
}

// RemoveNetwork is the controller's.
func (t timedNetwork) RemoveNetwork(ctx context.Context, ref string) error {
	begun := time.Now()
	err := t.Controller.RemoveNetwork(ctx, ref)
	t.metrics.Ended(metrics.RemoveNetwork, begun, err)
	return err
}
