// Package path measures the way of packets: to a published port from outside, from one
// container to another, and by the userland proxy, side by side with Docker and with the
// same ways without an engine.
//
// What is compared is measured one after the other in each round, in an order drawn anew,
// and compared within the round: what slows the machine down slows all of it.
package path

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/bench/load"
	"github.com/fairlead/fairlead/bench/throwaway"
	"github.com/fairlead/fairlead/bench/work"
)

// Options say how much is measured.
type Options struct {
	// Rounds is how often each way is measured, after a round that is not counted.
	Rounds int
	// Length is how long each measurement takes.
	Length time.Duration
	// Ports are the other ports that are published, of Fairlead and of Docker.
	Ports, DockerPorts int
	// Subjects are those that are measured.
	Subjects []string
}

// Standard is the usual form, and Short one for seeing that all of it runs.
var (
	Standard = Options{Rounds: 25, Length: 200 * time.Millisecond, Ports: 10000, DockerPorts: 10000}
	Short    = Options{Rounds: 1, Length: 100 * time.Millisecond, Ports: 1000, DockerPorts: 100}
)

// key is what is measured: a way on a subject's host, under a kind of load.
type key struct {
	subject, way string
	kind         load.Kind
}

// groups are what is compared with each other, kind by kind.
var groups = []struct {
	kinds []load.Kind
	ways  []key
}{
	{[]load.Kind{load.Connections}, []key{
		{subject: fairlead, way: wayPublished},
		{subject: fairleadPorts, way: wayPublished},
		{subject: fairleadFast, way: wayPublished},
		{subject: fairlead, way: wayHost},
		{subject: docker, way: wayPublished},
		{subject: dockerPorts, way: wayPublished},
		{subject: docker, way: wayHost},
		{subject: dnat, way: wayPublished},
		{subject: bare, way: wayHost},
	}},
	{[]load.Kind{load.Requests, load.Stream}, []key{
		{subject: fairlead, way: wayPublished},
		{subject: fairleadFast, way: wayPublished},
		{subject: fairlead, way: wayHost},
		{subject: docker, way: wayPublished},
		{subject: docker, way: wayHost},
		{subject: dnat, way: wayPublished},
		{subject: bare, way: wayHost},
	}},
	{[]load.Kind{load.Connections, load.Requests, load.Stream}, []key{
		{subject: fairlead, way: wayPeer}, {subject: fairleadFast, way: wayPeer}, {subject: docker, way: wayPeer}, {subject: bare, way: wayPeer}, {subject: bare, way: wayWire},
	}},
	{[]load.Kind{load.Connections, load.Requests}, []key{
		{subject: fairlead, way: wayFiltered}, {subject: fairleadFast, way: wayFiltered}, {subject: docker, way: wayFiltered}, {subject: bare, way: wayFiltered},
	}},
	{[]load.Kind{load.Connections, load.Requests, load.Stream}, []key{
		{subject: fairlead, way: wayLoopback}, {subject: fairleadHooks, way: wayLoopback}, {subject: docker, way: wayLoopback},
	}},
}

// sample is what a client found, and what the host's processors did meanwhile.
type sample struct {
	load.Sample
	// Server and Proxy are the processor time that the server took, and the processes of the
	// userland proxy, with what the kernel does in their names.
	Server, Proxy time.Duration
	// Alone is what one thread did that was client and server; nothing where there is a proxy.
	Alone load.Sample
}

// work is the processor time of everyone on the way.
func (s sample) work() time.Duration { return s.Work + s.Server + s.Proxy }

// results are the samples of each key, one a round.
type results map[key][]sample

// usage is what the proxies of a host take.
type usage struct{ bytes, ports int64 }

// measured is all that a run found.
type measured struct {
	results
	memory map[string]usage
	// stolen is which part of the processors the host of this virtual machine gave to others.
	stolen float64
}

// measure measures everything.
func measure(ctx context.Context, o Options, dir string) (m measured, err error) {
	hosts, err := startAll(o, dir)
	defer stopAll(hosts)
	if err != nil {
		return m, err
	}
	m.results, m.memory = results{}, map[string]usage{}
	order := rand.New(rand.NewPCG(1, 1)) // the same in every run
	began, err := work.OfMachine()
	if err != nil {
		return m, err
	}
	for i := range o.Rounds + 1 {
		length := o.Length
		if i == 0 {
			length = min(length, 100*time.Millisecond) // it fills caches
		}
		if err := m.round(ctx, hosts, order, length, i > 0); err != nil {
			return m, err
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i, o.Rounds)
	}
	ended, err := work.OfMachine()
	if err != nil {
		return m, err
	}
	if stolen := ended.Stolen - began.Stolen; stolen > 0 {
		m.stolen = float64(stolen) / float64(stolen+ended.Busy-began.Busy)
	}
	for _, name := range []string{fairleadPorts, docker} {
		if hosts[name] == nil {
			continue
		}
		a, err := ask(hosts[name], request{Op: opMemory})
		if err != nil {
			return m, err
		}
		m.memory[name] = usage{a.Memory, a.Ports}
	}
	return m, nil
}

// startAll starts the hosts of all subjects, side by side, for they wait more than they work.
// On an error it returns those that were started, to be stopped.
func startAll(o Options, dir string) (map[string]*throwaway.Host, error) {
	hosts := make(map[string]*throwaway.Host)
	errs := make([]error, len(o.Subjects))
	var all sync.WaitGroup
	for i, name := range o.Subjects {
		h, err := start(name, dir)
		if err != nil {
			errs[i] = fmt.Errorf("host of %s: %w", name, err)
			break
		}
		hosts[name] = h
		ports := o.Ports
		if name == dockerPorts {
			ports = o.DockerPorts
		}
		all.Go(func() { _, errs[i] = ask(h, request{Op: opPrepare, Ports: ports}) })
	}
	all.Wait()
	return hosts, errors.Join(errs...)
}

// stopAll ends the hosts and all that runs in them, side by side as well.
func stopAll(hosts map[string]*throwaway.Host) {
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() { throwaway.Stop([]*throwaway.Host{h}) })
	}
	all.Wait()
}

// round measures each way once.
func (m measured) round(ctx context.Context, hosts map[string]*throwaway.Host, order *rand.Rand, length time.Duration, counted bool) error {
	for _, g := range groups {
		for _, kind := range g.kinds {
			for _, n := range order.Perm(len(g.ways)) {
				k := g.ways[n]
				k.kind = kind
				if hosts[k.subject] == nil {
					continue
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				a, err := ask(hosts[k.subject], request{Op: opMeasure, Way: k.way, Kind: kind, Length: length})
				if err != nil {
					return err
				}
				if counted {
					m.results[k] = append(m.results[k], a.sample)
				}
			}
		}
	}
	return nil
}

// rate, p50 and p99 are what of a sample is compared; more is better.
func rate(s sample) float64 { return s.Rate }
func p50(s sample) float64  { return 1 / s.P50.Seconds() }
func p99(s sample) float64  { return 1 / s.P99.Seconds() }

// thrift is how much is done in a second of the processors' work: of one thread that is client and
// server, or, where there is a proxy between them, of all three.
func thrift(s sample) float64 {
	if s.Alone.Work > 0 {
		return float64(s.Alone.Done) / s.Alone.Work.Seconds()
	}
	return float64(s.Done) / s.work().Seconds()
}

// proxyShare is which part of the processors' work was the proxy's.
func proxyShare(s sample) float64 { return s.Proxy.Seconds() / s.work().Seconds() }

// of is the median of what was measured; 0 of nothing.
func (r results) of(k key, what func(sample) float64) float64 {
	var all []float64
	for _, s := range r[k] {
		all = append(all, what(s))
	}
	return median(all)
}

// ratio is the median of the ratios within each round; 0 where one was not measured.
func (r results) ratio(a, b key, what func(sample) float64) float64 {
	var all []float64
	for i := range min(len(r[a]), len(r[b])) {
		all = append(all, what(r[a][i])/what(r[b][i]))
	}
	return median(all)
}

// median is the middle of the values, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
