package path

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/bench/engine"
	"github.com/fairlead/fairlead/bench/load"
)

// prefix is what the names of hosts of this package begin with.
const prefix = "path-"

// The subjects, each on a host of its own.
const (
	fairlead      = prefix + "fairlead"
	fairleadPorts = prefix + "fairlead+ports"
	fairleadHooks = prefix + "fairlead+hooks"
	fairleadFast  = prefix + "fairlead+fast"
	docker        = prefix + "docker"
	dockerPorts   = prefix + "docker+ports"
	bare          = prefix + "bare"
	dnat          = prefix + "dnat"
)

// Subjects are all that -subjects may choose.
var Subjects = []string{fairlead, fairleadPorts, fairleadHooks, fairleadFast, docker, dockerPorts, bare, dnat}

// subjects make what is measured on a host.
var subjects = map[string]func(ctx context.Context, h *host, ports int) error{
	fairlead:      fairleadWith(),
	fairleadHooks: fairleadWith("--userland-proxy=false"),
	fairleadFast:  fairleadFastPath,
	fairleadPorts: fairleadFull,
	docker:        dockerPlain,
	dockerPorts:   dockerFull,
	bare:          bareWays,
	dnat:          dnatWays,
}

// fairleadWith starts the daemon with flags.
func fairleadWith(flags ...string) func(ctx context.Context, h *host, ports int) error {
	return func(ctx context.Context, h *host, _ int) error {
		h.proxy = isRelay
		_, err := h.engine(ctx, "fairlead", flags...)
		return err
	}
}

// firstPort is the first of the other published ports, and firstServed of those of the
// container that they lead to: another, so that no one element says where all of them go.
const (
	firstPort   = 20000
	firstServed = 40000
)

// engine starts an engine with two containers: one that publishes, and one beside it.
func (h *host) engine(ctx context.Context, name string, flags ...string) (*engine.Engine, error) {
	e, err := engine.New(name, h.dir, flags...)
	if err != nil {
		return nil, err
	}
	if err := h.run(ctx, e); err != nil {
		return nil, err
	}
	return e, h.containers(ctx, e)
}

// run starts the engine, to be stopped with the host.
func (h *host) run(ctx context.Context, e *engine.Engine) error {
	h.stop = func() {
		// A daemon waits ten seconds for containers that do not heed a signal, as these do not.
		if all, err := e.Run(ctx, "ps", "-aq"); err == nil && all != "" {
			_, _ = e.Run(ctx, append([]string{"rm", "-f"}, strings.Fields(all)...)...)
		}
		e.Stop()
	}
	return e.Start(ctx, h.dir)
}

func (h *host) containers(ctx context.Context, e *engine.Engine) error {
	server, err := e.Idle(ctx, "server", "-p", fmt.Sprintf("%d:%d", publishedPort, servedPort))
	if err != nil {
		return err
	}
	client, err := e.Idle(ctx, "client")
	if err != nil {
		return err
	}
	addr, err := e.Run(ctx, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", "server")
	if err != nil {
		return err
	}
	at, err := netip.ParseAddr(addr)
	if err != nil {
		return err
	}
	in := load.Space{Name: "the container", Path: server}
	pid, err := in.Serve(ctx, servedPort)
	if err != nil {
		return err
	}
	served := netip.AddrPortFrom(at, servedPort)
	if err := set(client); err != nil {
		return err
	}
	h.ways[wayPublished] = way{from: outside, to: netip.MustParseAddrPort(fmt.Sprintf("%s:%d", hostAddr, publishedPort)), server: pid, in: in, at: served}
	h.ways[wayLoopback] = way{from: self, to: netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", publishedPort)), server: pid}
	h.ways[wayPeer] = way{from: load.Space{Name: "the other container", Path: client}, to: served, server: pid, in: in, at: served}
	return nil
}

// set gives a namespace the settings of a client's.
func set(netns string) error {
	out, err := exec.Command("nsenter", "--net="+netns, "sh", "-c", settings).CombinedOutput()
	if err != nil {
		return fmt.Errorf("sysctl: %w: %s", err, out)
	}
	return nil
}

// many are so many ports, on IPv4 alone: where a process may not have more than 20,000 files
// open, and not raise that either, 10,000 sockets is what it can be given at once.
func many(ports int) string {
	return fmt.Sprintf("0.0.0.0:%d-%d:%d-%d", firstPort, firstPort+ports-1, firstServed, firstServed+ports-1)
}

// fairleadFull publishes many more ports.
func fairleadFull(ctx context.Context, h *host, ports int) error {
	e, err := h.engine(ctx, "fairlead")
	if err != nil {
		return err
	}
	if _, err := e.Idle(ctx, "many", "-p", many(ports)); err != nil {
		return err
	}
	h.memory = func(ctx context.Context) (int64, int64, error) {
		bytes, err := memory(ctx, isRelay)
		return bytes, int64(ports), err
	}
	return nil
}

func isRelay(args []string) bool       { return len(args) > 1 && args[1] == "relay" }
func isDockerProxy(args []string) bool { return strings.HasSuffix(args[0], "docker-proxy") }

// proxied is how many ports of docker-proxy are looked at: each is a process.
const proxied = 20

func dockerPlain(ctx context.Context, h *host, _ int) error {
	h.proxy = isDockerProxy
	e, err := h.engine(ctx, "docker")
	if err != nil {
		return err
	}
	h.memory = func(ctx context.Context) (int64, int64, error) {
		if _, err := e.Idle(ctx, "many", "-p", many(proxied)); err != nil {
			return 0, 0, err
		}
		bytes, err := memory(ctx, func(args []string) bool {
			return isDockerProxy(args) && !slices.Contains(args, strconv.Itoa(publishedPort))
		})
		return bytes, proxied, err
	}
	return nil
}

// dockerFull adds the rules that dockerd makes for other ports: half of them before those of
// the measured port, half after.
func dockerFull(ctx context.Context, h *host, ports int) error {
	e, err := engine.New("docker", h.dir)
	if err != nil {
		return err
	}
	if err := h.run(ctx, e); err != nil {
		return err
	}
	if err := dockerRules(ctx, firstPort, ports/2); err != nil {
		return err
	}
	if err := h.containers(ctx, e); err != nil {
		return err
	}
	return dockerRules(ctx, firstPort+ports/2, ports-ports/2)
}

// dockerRules adds rules for so many ports of a container: what dockerd 20.10 makes for each
// (libnetwork, iptables.Chain.Forward), in one batch.
func dockerRules(ctx context.Context, first, count int) error {
	const container = "172.17.0.250"
	var nat, filter bytes.Buffer
	for port := first; port < first+count; port++ {
		served := port - firstPort + firstServed
		fmt.Fprintf(&nat, "-A DOCKER ! -i docker0 -p tcp -m tcp --dport %d -j DNAT --to-destination %s:%d\n", port, container, served)
		fmt.Fprintf(&nat, "-A POSTROUTING -s %s/32 -d %s/32 -p tcp -m tcp --dport %d -j MASQUERADE\n", container, container, served)
		fmt.Fprintf(&filter, "-A DOCKER -d %s/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport %d -j ACCEPT\n", container, served)
	}
	cmd := exec.CommandContext(ctx, "iptables-restore", "--noflush")
	cmd.Stdin = strings.NewReader("*nat\n" + nat.String() + "COMMIT\n*filter\n" + filter.String() + "COMMIT\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, out)
	}
	return nil
}

// bareWires are namespaces joined by a bridge, and by a veth pair, with no rule anywhere.
const bareWires = `set -e
for n in a b c d; do
	ip netns add $n; ip -n $n link set lo up
	nsenter --net=/run/netns/$n ` + settings + `
done
ip link add br0 type bridge; ip link set br0 up
for n in a b; do ip link add v$n type veth peer name eth0 netns $n; ip link set v$n master br0 up; ip -n $n link set eth0 up; done
ip -n a addr add 10.0.0.1/24 dev eth0; ip -n b addr add 10.0.0.2/24 dev eth0
ip -n c link add eth0 type veth peer name eth0 netns d; ip -n c link set eth0 up; ip -n d link set eth0 up
ip -n c addr add 10.0.1.1/24 dev eth0; ip -n d addr add 10.0.1.2/24 dev eth0
`

func bareWays(ctx context.Context, h *host, _ int) error {
	if out, err := exec.CommandContext(ctx, "sh", "-c", bareWires).CombinedOutput(); err != nil {
		return fmt.Errorf("the wires: %w: %s", err, out)
	}
	for name, w := range map[string]struct{ from, to, addr string }{
		wayPeer: {"a", "b", "10.0.0.2"},
		wayWire: {"c", "d", "10.0.1.2"},
	} {
		in, at := load.Space{Name: w.to, Path: "/run/netns/" + w.to}, netip.MustParseAddrPort(fmt.Sprintf("%s:%d", w.addr, servedPort))
		pid, err := in.Serve(ctx, servedPort)
		if err != nil {
			return err
		}
		h.ways[name] = way{from: load.Space{Name: w.from, Path: "/run/netns/" + w.from}, to: at, server: pid, in: in, at: at}
	}
	return nil
}

// dnatRule is the least that publishes a port: see dnatWays.
const dnatRule = `set -e
sysctl -qw net.ipv4.ip_forward=1
ip addr add 10.0.0.254/24 dev br0; ip -n b route add default via 10.0.0.254
nft add table ip floor
nft 'add chain ip floor published { type nat hook prerouting priority dstnat; }'
nft add rule ip floor published tcp dport %d dnat to 10.0.0.2:%d
`

// dnatWays publish a port by one rule, and protect nothing: the least that the kernel does
// where addresses are translated.
func dnatWays(ctx context.Context, h *host, ports int) error {
	if err := bareWays(ctx, h, ports); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(dnatRule, publishedPort, servedPort)).CombinedOutput(); err != nil {
		return fmt.Errorf("the rule: %w: %s", err, out)
	}
	w := h.ways[wayPeer]
	w.from, w.to = outside, netip.MustParseAddrPort(fmt.Sprintf("%s:%d", hostAddr, publishedPort))
	h.ways[wayPublished] = w
	return nil
}
