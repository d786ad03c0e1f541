package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/internal/tally"
)

// collector makes metrics of a Reading.
type collector struct {
	read func(ctx context.Context) Reading
}

// metric is what the collector knows of one: it is told of in docs/METRICS.md.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func describe(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("fairlead_"+name, help, labels, nil), kind}
}

const (
	counter   = prometheus.CounterValue
	gauge     = prometheus.GaugeValue
	histogram = prometheus.UntypedValue // which those made here have none of
)

var (
	containers = describe(gauge, "containers", "Containers by state.", "state")
	networks   = describe(gauge, "networks", "Networks.")
	endpoints  = describe(gauge, "network_endpoints", "Containers' attachments to the network.", "network")
	inUse      = describe(gauge, "network_addresses_in_use", "Addresses of the network's subnets that cannot be given: those of endpoints, the gateway, and the first and last.", "network", "family")
	available  = describe(gauge, "network_addresses_available", "Addresses of the network's subnets that the next endpoints may get.", "network", "family")
	restored   = describe(gauge, "restore_duration_seconds", "How long it took to make the network stand as it is wanted when the daemon started.")
	unended    = describe(gauge, "operations_unended", "Operations of which something is left to take away, which is tried again.")

	healed  = describe(counter, "healed_total", "Things that were put back after another program had changed them, by what they are.", "kind")
	paused  = describe(gauge, "healing_paused", "1 while nothing is put back, else 0.")
	surveys = describe(histogram, "survey_duration_seconds", "How long looks at the host for what other programs changed took.")

	droppedPackets = describe(counter, "guard_dropped_packets_total", "Packets that containers were kept from sending, because they are not theirs to send, by the comment of the rule.", "reason")
	droppedBytes   = describe(counter, "guard_dropped_bytes_total", "Bytes of the packets that containers were kept from sending, by the comment of the rule.", "reason")

	relayUp          = describe(gauge, "relay_up", "1 if the relay answered, else 0: then what only it knows is missing.")
	held             = describe(gauge, "ports_held", "Ports of the host that are held for containers, each address of one by itself.", "protocol")
	connections      = describe(counter, "proxy_connections_total", "TCP connections, and UDP flows, that the userland proxy took.", "protocol")
	connectionsFail  = describe(counter, "proxy_connections_failed_total", "Connections that the userland proxy reset because the container could not be reached, or for want of descriptors.", "protocol")
	connectionsOpen  = describe(gauge, "proxy_connections_open", "Connections, and UDP flows, that the userland proxy carries.", "protocol")
	proxyBytes       = describe(counter, "proxy_bytes_total", "Bytes that the userland proxy carried: in to containers, out to their clients.", "protocol", "direction")
	queriesTotal     = describe(counter, "dns_queries_total", "Queries of containers that were answered, by where the answer is from and what it says.", "source", "outcome")
	queriesDurations = describe(histogram, "dns_query_duration_seconds", "How long answers to containers' queries took, by where they are from.", "source")

	writes  = describe(counter, "store_writes_total", "Values written to the store on disk, or deleted from it.")
	commits = describe(histogram, "store_commit_duration_seconds", "How long the store's transactions took, each with its fsync.")
	records = describe(counter, "journal_records_total", "Intents and leases written, or turned into each other.")

	helperMemory = describe(gauge, "helper_resident_memory_bytes", "Resident memory of the processes beside the daemon.", "process")
	helperCPU    = describe(counter, "helper_cpu_seconds_total", "Processor time, user and system, of the processes beside the daemon.", "process")
)

var all = []metric{
	containers, networks, endpoints, inUse, available, restored, unended,
	healed, paused, surveys, droppedPackets, droppedBytes,
	relayUp, held, connections, connectionsFail, connectionsOpen, proxyBytes, queriesTotal, queriesDurations,
	writes, commits, records, helperMemory, helperCPU,
}

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range all {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, out := c.read(ctx), sink{to}
	for state, n := range r.Containers {
		out.number(containers, float64(n), state)
	}
	out.number(networks, float64(len(r.Networks)))
	for _, n := range r.Networks {
		out.number(endpoints, float64(n.Endpoints), n.Name)
		for family, a := range n.Families {
			out.number(inUse, float64(a.InUse), n.Name, family)
			out.number(available, float64(a.Available), n.Name, family)
		}
	}
	out.number(restored, r.Restored)
	out.number(unended, float64(r.Unended))
	for kind, n := range r.Healed {
		out.number(healed, float64(n), kind)
	}
	out.number(paused, oneIf(r.Paused))
	out.observed(surveys, r.Surveys)
	for reason, d := range r.Dropped {
		out.number(droppedPackets, float64(d.Packets), reason)
		out.number(droppedBytes, float64(d.Bytes), reason)
	}
	out.relay(r)
	out.number(writes, float64(r.Writes))
	out.observed(commits, r.Commits)
	out.number(records, float64(r.Records))
	for name, p := range r.Helpers {
		out.number(helperMemory, p.Memory, name)
		out.number(helperCPU, p.Seconds, name)
	}
}

// sink takes metrics.
type sink struct{ to chan<- prometheus.Metric }

func (s sink) relay(r Reading) {
	s.number(relayUp, oneIf(r.Relay != nil))
	if r.Relay == nil {
		return
	}
	for proto, n := range r.Relay.Held {
		s.number(held, float64(n), proto)
	}
	for proto, c := range r.Relay.Carried {
		s.number(connections, float64(c.Begun), proto)
		s.number(connectionsFail, float64(c.Failed), proto)
		s.number(connectionsOpen, float64(c.Open()), proto)
		s.number(proxyBytes, float64(c.In), proto, "in")
		s.number(proxyBytes, float64(c.Out), proto, "out")
	}
	for _, q := range r.Relay.Queries {
		s.number(queriesTotal, float64(q.Count), string(q.Source), q.Outcome)
	}
	for source, o := range r.Relay.Latencies {
		s.observed(queriesDurations, o, string(source))
	}
}

func (s sink) number(m metric, v float64, labels ...string) {
	s.take(m)(prometheus.NewConstMetric(m.desc, m.kind, v, labels...))
}

func (s sink) observed(m metric, o tally.Observed, labels ...string) {
	buckets := make(map[float64]uint64, len(tally.Bounds))
	for bound, n := range o.UpTo() {
		buckets[bound.Seconds()] = n
	}
	s.take(m)(prometheus.NewConstHistogram(m.desc, o.Count(), o.Sum.Seconds(), buckets, labels...))
}

// take sends one; what cannot be made, of a name that is no text, say, is told in its
// place.
func (s sink) take(m metric) func(prometheus.Metric, error) {
	return func(made prometheus.Metric, err error) {
		if err != nil {
			made = prometheus.NewInvalidMetric(m.desc, err)
		}
		s.to <- made
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
