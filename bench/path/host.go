package path

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/bench/load"
	"github.com/fairlead/fairlead/bench/throwaway"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

// What the driver asks of a host.
const (
	opPrepare = "prepare"
	opMeasure = "measure"
	opMemory  = "memory"
)

type request struct {
	Op string
	// Ports are how many others are published, to prepare.
	Ports int `json:",omitempty"`
	// Way, Kind and Length are what to measure.
	Way    string        `json:",omitempty"`
	Kind   load.Kind     `json:",omitempty"`
	Length time.Duration `json:",omitempty"`
}

type answer struct {
	sample
	// Memory is what proxies take, in bytes, for so many ports.
	Memory, Ports int64 `json:",omitempty"`
}

// The ways that are measured.
const (
	// wayPublished is from outside to a port that a container publishes.
	wayPublished = "published"
	// wayHost is from outside to a server in the host's own namespace.
	wayHost = "host"
	// wayPeer is from one container to another on the same bridge.
	wayPeer = "peer"
	// wayFiltered is the same, with the packet filter looking at what bridges pass on
	// (br_netfilter), as kernels have it in which that is built in, or was loaded.
	wayFiltered = "filtered"
	// wayWire is from one namespace to another over one veth pair.
	wayWire = "wire"
	// wayLoopback is from the host by 127.0.0.1 to a port that a container publishes.
	wayLoopback = "loopback"
)

// The addresses of the host and of the machine outside, and the ports that are measured.
const (
	hostAddr    = "192.0.2.1"
	outsideAddr = "192.0.2.2"

	publishedPort = 8080
	hostPort      = 7070
	servedPort    = 80
)

// settings are of every namespace with a client: as many ports as there are.
const settings = "sysctl -qw net.ipv4.ip_local_port_range='1024 65535'"

// wires makes the machine outside.
const wires = `set -e
ip netns add outside
ip link add uplink type veth peer name eth0 netns outside
ip link set uplink up; ip -n outside link set eth0 up; ip -n outside link set lo up
ip addr add ` + hostAddr + `/24 dev uplink; ip -n outside addr add ` + outsideAddr + `/24 dev eth0
ip -n outside route add default via ` + hostAddr + `
` + settings + `
nsenter --net=/run/netns/outside ` + settings + `
`

// way is one way of a host that is there to measure.
type way struct {
	from load.Space
	to   netip.AddrPort
	// server is the process that answers, in the namespace in at an address of its own. Where
	// there is a proxy in between it is not known.
	server int
	in     load.Space
	at     netip.AddrPort
	// filtered says that br_netfilter is on.
	filtered bool
}

// host is a subject's host, with what runs there.
type host struct {
	dir  string
	ways map[string]way
	// proxy tells the processes of the userland proxy by their arguments; nil of none.
	proxy func(args []string) bool
	// memory says what proxies take, and for how many ports.
	memory func(ctx context.Context) (bytes, ports int64, err error)
	// fast says why connections from outside do not take the fast path; nil where they are not
	// meant to.
	fast func(ctx context.Context) error
	stop func()
}

// self is the host's own namespace.
var self = load.Space{Name: "the host", Path: fmt.Sprintf("/proc/%d/ns/net", os.Getpid())}

// Serves says whether a subject of package throwaway is one of ours.
func Serves(name string) bool { return strings.HasPrefix(name, prefix) }

// Serve does what the driver asks of the host of that name, until it closes standard input.
func Serve(name, dir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := &host{dir: dir, ways: map[string]way{}, stop: func() {}}
	if err := throwaway.Serve(func(r request) (answer, error) { return h.do(ctx, name, r) }); err != nil {
		return err
	}
	h.stop()
	return nil
}

func (h *host) do(ctx context.Context, name string, r request) (a answer, err error) {
	switch r.Op {
	case opPrepare:
		return a, h.prepare(ctx, name, r.Ports)
	case opMeasure:
		a.sample, err = h.measure(ctx, r)
		return a, err
	case opMemory:
		if h.memory == nil {
			return a, errors.New("has no proxies")
		}
		a.Memory, a.Ports, err = h.memory(ctx)
		return a, err
	}
	return a, fmt.Errorf("no such operation %q", r.Op)
}

// prepare makes the machine outside and the subject, and sees that every way is one.
func (h *host) prepare(ctx context.Context, name string, ports int) error {
	if out, err := exec.CommandContext(ctx, "sh", "-c", wires).CombinedOutput(); err != nil {
		return fmt.Errorf("the wires: %w: %s", err, out)
	}
	server, err := self.Serve(ctx, hostPort)
	if err != nil {
		return err
	}
	if err := bridgeFilter(false); err != nil {
		return err
	}
	at := netip.MustParseAddrPort(fmt.Sprintf("%s:%d", hostAddr, hostPort))
	h.ways[wayHost] = way{from: outside, to: at, server: server, in: self, at: at}
	if err := subjects[name](ctx, h, ports); err != nil {
		return err
	}
	if w, ok := h.ways[wayPeer]; ok {
		w.filtered = true
		h.ways[wayFiltered] = w
	}
	for name, w := range h.ways {
		if _, err := w.from.Measure(ctx, load.Once, w.to, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// outside is the machine from which the host is reached by its uplink.
var outside = load.Space{Name: "outside", Path: "/run/netns/outside"}

// maxRetransmitted is which part of the segments of a measurement may have been lost: each
// costs its connection more time than all else. On these links none are, but where the kernel
// is so busy that its queues are full.
const maxRetransmitted = 0.01

// fullAtMost is of how many connections one may have found no room in the table of connections: more
// often, and it is that table which is measured.
const fullAtMost = 1000

// measure measures one way once, and sees that nothing but the way was measured: the
// kernel's one table of connections, which all namespaces share, is left as it was.
func (h *host) measure(ctx context.Context, r request) (s sample, err error) {
	w, ok := h.ways[r.Way]
	if !ok {
		return sample{}, fmt.Errorf("no way %q", r.Way)
	}
	before, err := lostFlows()
	if err != nil {
		return sample{}, err
	}
	if w.filtered {
		if err := bridgeFilter(true); err != nil {
			return sample{}, err
		}
		defer func() { err = errors.Join(err, bridgeFilter(false)) }()
	}
	began, err := h.spent(w.server)
	if err != nil {
		return sample{}, err
	}
	if s.Sample, err = w.from.Measure(ctx, r.Kind, w.to, r.Length); err != nil {
		return s, fmt.Errorf("%s: %w", r.Way, err)
	}
	ended, err := h.spent(w.server)
	if err != nil {
		return sample{}, err
	}
	if w.at.IsValid() {
		if s.Alone, err = w.from.Alone(ctx, r.Kind, w.to, w.in, w.at, r.Length/2); err != nil {
			return s, fmt.Errorf("%s, by one thread: %w", r.Way, err)
		}
	}
	if h.fast != nil && r.Way == wayPublished {
		if err := h.fast(ctx); err != nil {
			return s, fmt.Errorf("%s, %s: %w", r.Way, r.Kind, err)
		}
	}
	s.Server, s.Proxy = ended.Server-began.Server, ended.Proxy-began.Proxy
	// A stream that is faster than its end fills a queue, and is told so by a loss.
	if s.Retransmitted > maxRetransmitted && r.Kind != load.Stream {
		return s, fmt.Errorf("%s, %s: %.1f %% of the segments were lost", r.Way, r.Kind, 100*s.Retransmitted)
	}
	after, err := lostFlows()
	if err == nil && after-before > s.Done/fullAtMost {
		err = fmt.Errorf("%s, %s: the table of connections was full %d times", r.Way, r.Kind, after-before)
	}
	return s, errors.Join(err, netlink.ConntrackTableFlush(netlink.ConntrackTable))
}

// bridgeFilter has the packet filter of the host look at what bridges pass on, or not. Debian's
// kernel does not until somebody loads br_netfilter; others have it built in, and on.
func bridgeFilter(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	for _, table := range []string{"ip", "ip6", "arp"} {
		_, err := sysctl.Set("net.bridge.bridge-nf-call-"+table+"tables", value)
		if errors.Is(err, errdefs.ErrNotFound) && !on {
			return nil // not loaded
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// start starts the host of a subject.
func start(name, dir string) (*throwaway.Host, error) {
	own, err := os.MkdirTemp(dir, "h")
	if err != nil {
		return nil, err
	}
	return throwaway.Start(name, own)
}

// ask asks the host for something.
func ask(h *throwaway.Host, r request) (answer, error) {
	return throwaway.Ask[answer](h, r.Op, r)
}
