// Package metrics gives Prometheus what the daemon counts: as metrics of its names and
// types, in its text.
//
// It alone knows Prometheus. What is counted where things happen is counted by plain
// additions, and is read when somebody asks; nothing is asked of the kernel before.
package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	goruntime "runtime"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fairlead/fairlead/internal/tally"
)

const (
	// patience is how long one answer may take: the relay may be starting.
	patience = 5 * time.Second
	// atOnce is how many answers are made at a time; more are told to come later.
	atOnce = 4
)

// Metrics are all metrics of one daemon.
type Metrics struct {
	registry   *prometheus.Registry
	operations *prometheus.HistogramVec
}

// Options are what metrics are made from.
type Options struct {
	// Version and Commit of the daemon.
	Version, Commit string
	// Read returns what is so now. What cannot be read is left out of it.
	Read func(ctx context.Context) Reading
}

// New makes the metrics.
func New(o Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "fairlead_network_operation_duration_seconds",
		Help:    "How long operations of the network took, from the request to the answer: attach, detach, connect and disconnect of containers, create and remove of networks.",
		Buckets: seconds(),
	}, []string{"operation", "outcome"})}
	for _, operation := range []Operation{Attach, Detach, Connect, Disconnect, CreateNetwork, RemoveNetwork} {
		for _, outcome := range []string{succeeded, refused, failed} {
			m.operations.WithLabelValues(string(operation), outcome)
		}
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fairlead_build_info", Help: "What is running; always 1.",
		ConstLabels: prometheus.Labels{"version": o.Version, "commit": o.Commit, "go_version": goruntime.Version()},
	}, func() float64 { return 1 })
	m.registry.MustRegister(
		build, m.operations, collector{o.Read},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Operation is one of the network's whose time is taken.
type Operation string

// The operations.
const (
	Attach        Operation = "attach"
	Detach        Operation = "detach"
	Connect       Operation = "connect"
	Disconnect    Operation = "disconnect"
	CreateNetwork Operation = "create"
	RemoveNetwork Operation = "remove"
)

// What became of an operation: refused is the user's to put right, such as a port that
// is taken.
const (
	succeeded = "success"
	refused   = "refused"
	failed    = "failure"
)

// Ended counts an operation that has begun then.
func (m *Metrics) Ended(operation Operation, begun time.Time, err error) {
	m.operations.WithLabelValues(string(operation), outcome(err)).Observe(time.Since(begun).Seconds())
}

func outcome(err error) string {
	switch {
	case err == nil:
		return succeeded
	case errdefs.IsInvalidArgument(err), errdefs.IsNotFound(err), errdefs.IsAlreadyExists(err), errdefs.IsConflict(err),
		errdefs.IsFailedPrecondition(err), errdefs.IsPermissionDenied(err), errdefs.IsResourceExhausted(err), errdefs.IsNotImplemented(err):
		return refused
	}
	return failed
}

// Handler answers with the metrics, in Prometheus's text or, to who asks for it,
// OpenMetrics.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: atOnce, ErrorHandling: promhttp.ContinueOnError, ErrorLog: complaints{log},
	})
}

// complaints has the log tell what a metric could not be made for.
type complaints struct{ log *slog.Logger }

func (c complaints) Println(v ...any) {
	c.log.Warn("metrics are not complete", "err", fmt.Sprint(v...))
}

// seconds are the bounds of all histograms.
func seconds() []float64 {
	out := make([]float64, len(tally.Bounds))
	for i, bound := range tally.Bounds {
		out[i] = bound.Seconds()
	}
	return out
}
