// Package daemon is `fairlead daemon`: its flags and configuration file, and the
// start and stop of everything the daemon is made of. It wires the other
// packages together and holds no logic of theirs.
package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// Config is what the daemon is told, by flags and by its configuration file. A
// field's json tag is its key in the file, which is the flag's name as in
// dockerd; its plural tag, where it has one, is the key that takes a list.
type Config struct {
	Hosts               []string `json:"hosts"`
	Group               string   `json:"group"`
	DataRoot            string   `json:"data-root"`
	ExecRoot            string   `json:"exec-root"`
	PIDFile             string   `json:"pidfile"`
	LogLevel            string   `json:"log-level"`
	LogFormat           string   `json:"log-format"`
	Debug               bool     `json:"debug"`
	Containerd          string   `json:"containerd"`
	ContainerdNamespace string   `json:"containerd-namespace"`
	LiveRestore         bool     `json:"live-restore"`

	Bridge         string `json:"bridge"`
	BridgeName     string `json:"bridge-name"`
	BIP            string `json:"bip"`
	FixedCIDR      string `json:"fixed-cidr"`
	DefaultGateway string `json:"default-gateway"`
	MTU            int    `json:"mtu"`
	IPForward      bool   `json:"ip-forward"`
	ForwardNoDrop  bool   `json:"ip-forward-no-drop"`
	Firewall       string `json:"firewall-backend"`
	IPTables       bool   `json:"iptables"`
	IP6Tables      bool   `json:"ip6tables"`
	IPMasq         bool   `json:"ip-masq"`
	DirectRouting  bool   `json:"allow-direct-routing"`
	AcceptFWMark   string `json:"bridge-accept-fwmark"`
	UserlandProxy  bool   `json:"userland-proxy"`
	IP             string `json:"ip"`
	AddressPools   []Pool `json:"default-address-pools"`
	SpareSandboxes int    `json:"spare-sandboxes"`
	FastPath       bool   `json:"fast-path"`

	ICC             bool           `json:"icc"`
	IPv6            bool           `json:"ipv6"`
	BIP6            string         `json:"bip6"`
	FixedCIDR6      string         `json:"fixed-cidr-v6"`
	DefaultGateway6 string         `json:"default-gateway-v6"`
	NetworkOptions  NetworkOptions `json:"default-network-opts"`

	DNS        []string `json:"dns"`
	DNSOptions []string `json:"dns-opts"`
	DNSSearch  []string `json:"dns-search"`
	ResolvConf string   `json:"resolv-conf"`

	// HostGateway is the key that dockerd had before it took a list.
	HostGateway  string   `json:"host-gateway-ip"`
	HostGateways []string `json:"host-gateway-ips"`

	containerSettings
	registrySettings
	tlsSettings
	metricsSettings
	foreignSettings

	// front is what the daemon was called as.
	front front
}

// Pool is an address pool as the configuration file has it.
type Pool struct {
	Base string `json:"base"`
	Size int    `json:"size"`
}

// The defaults of the paths.
const (
	DefaultDataRoot   = "/var/lib/fairlead"
	DefaultExecRoot   = "/run/fairlead"
	defaultConfigFile = "/etc/fairlead/daemon.json"
)

func defaults() Config {
	return Config{
		Group: "fairlead", DataRoot: DefaultDataRoot, ExecRoot: DefaultExecRoot,
		LogLevel: "info", LogFormat: "text", LiveRestore: true,
		containerSettings: containerDefaults(), registrySettings: registryDefaults(), tlsSettings: tlsDefaults("/etc/fairlead"),
		BridgeName: network.DefaultBridge, MTU: 1500, IPForward: true, IPMasq: true, ICC: true, Firewall: string(network.FirewallNFTables), IPTables: true, IP6Tables: true, UserlandProxy: true, SpareSandboxes: 8, ResolvConf: "/etc/resolv.conf", IP: "0.0.0.0",
	}
}

func (c *Config) register(f *pflag.FlagSet) {
	f.StringArrayVarP(&c.Hosts, "host", "H", nil, "listen here: unix:///path, tcp://address:port with --tlsverify, or fd:// for systemd's sockets; several times for several (default "+c.front.defaultHost()+")")
	f.StringVarP(&c.Group, "group", "G", c.Group, "group that may use the socket, where it exists")
	f.StringVar(&c.DataRoot, "data-root", c.DataRoot, "where images, containers and networks are kept")
	f.StringVar(&c.ExecRoot, "exec-root", c.ExecRoot, "where what lives until the next boot is kept: sockets, namespaces, leases")
	f.StringVarP(&c.PIDFile, "pidfile", "p", c.PIDFile, "write the process ID here (default EXEC_ROOT/fairlead.pid)")
	f.StringVarP(&c.LogLevel, "log-level", "l", c.LogLevel, "debug, info, warn or error")
	f.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
	f.BoolVarP(&c.Debug, "debug", "D", false, "the same as --log-level debug")
	f.StringVar(&c.Containerd, "containerd", "", "containerd's socket (default: the system's where it runs, else one of our own)")
	f.StringVar(&c.ContainerdNamespace, "containerd-namespace", "", "containerd namespace of our containers (default: by the data root)")
	f.BoolVar(&c.LiveRestore, "live-restore", c.LiveRestore, "leave containers running when the daemon stops")
	f.StringVarP(&c.Bridge, "bridge", "b", "", "use this bridge of the host's own for the default network; none for no default network")
	f.StringVar(&c.BridgeName, "bridge-name", c.BridgeName, "name of the default network's own bridge")
	f.StringVar(&c.BIP, "bip", "", "address of the default network's bridge, with its length: 192.168.5.1/24")
	f.StringVar(&c.FixedCIDR, "fixed-cidr", "", "part of the default network's subnet that containers get addresses of")
	f.StringVar(&c.DefaultGateway, "default-gateway", "", "the containers' default route on the default network, where it is not the bridge")
	f.IntVar(&c.MTU, "mtu", c.MTU, "MTU of the default network")
	f.BoolVar(&c.IPForward, "ip-forward", c.IPForward, "turn IP forwarding on where it is off")
	f.BoolVar(&c.ForwardNoDrop, "ip-forward-no-drop", c.ForwardNoDrop, "where IP forwarding was off and is turned on, forward for everybody and not for containers alone")
	f.StringVar(&c.Firewall, "firewall-backend", c.Firewall, "make rules by nftables or by iptables")
	f.BoolVar(&c.IPTables, "iptables", c.IPTables, "make firewall rules, by whichever back end; without them published ports are served by the userland proxy")
	f.BoolVar(&c.IP6Tables, "ip6tables", c.IP6Tables, "make firewall rules for IPv6, by whichever back end")
	f.BoolVar(&c.IPMasq, "ip-masq", c.IPMasq, "give packets that leave the default network the host's address")
	f.BoolVar(&c.UserlandProxy, "userland-proxy", c.UserlandProxy, "serve published ports on loopback by a proxy")
	f.IntVar(&c.SpareSandboxes, "spare-sandboxes", c.SpareSandboxes, "network namespaces kept ready with a veth pair each, for a minute after a container has started, so that the next starts sooner; 0 for none, 64 at most")
	f.BoolVar(&c.FastPath, "fast-path", c.FastPath, "take what containers of one network send each other past its bridge, and long TCP connections with outside past routing, NAT and bridge, where the kernel can (eBPF, Linux 6.8) and nobody else filters there; captures at the host's ends of links do not see it, and another's XDP in a container does not either: docs/PERFORMANCE.md")
	c.registerDefaultNetwork(f)
	c.registerRouting(f)
	c.registerDNS(f)
	c.registerHostGateway(f)
	c.containerSettings.register(f)
	c.registrySettings.register(f)
	c.tlsSettings.register(f)
	c.metricsSettings.register(f)
	c.foreignSettings.register(f)
	f.StringVar(&c.IP, "ip", c.IP, "host address for ports published without one")
	f.Var(&poolsFlag{&c.AddressPools}, "default-address-pool", "cut networks' subnets from here: base=10.20.0.0/16,size=24; several times for several")
}

// poolsFlag reads base=CIDR,size=BITS.
type poolsFlag struct{ pools *[]Pool }

func (p *poolsFlag) Type() string { return "pool" }

func (p *poolsFlag) String() string {
	var out []string
	for _, pool := range *p.pools {
		out = append(out, fmt.Sprintf("base=%s,size=%d", pool.Base, pool.Size))
	}
	return strings.Join(out, " ")
}

func (p *poolsFlag) Set(v string) error {
	var pool Pool
	for field := range strings.SplitSeq(v, ",") {
		key, val, _ := strings.Cut(field, "=")
		switch key {
		case "base":
			pool.Base = val
		case "size":
			n, err := strconv.Atoi(val)
			if err != nil {
				return fmt.Errorf("size %q is not a number", val)
			}
			pool.Size = n
		default:
			return fmt.Errorf("unknown field %q: want base=CIDR,size=BITS", key)
		}
	}
	*p.pools = append(*p.pools, pool)
	return nil
}

// firewall is the back end that was asked for; --iptables=false means none, for
// either and for both families.
func (c *Config) firewall() (network.FirewallKind, error) {
	kind := network.FirewallKind(c.Firewall)
	switch kind {
	case network.FirewallNFTables, network.FirewallIPTables:
	default:
		return "", fmt.Errorf("--firewall-backend %q: want nftables or iptables, or --iptables=false for no rules", c.Firewall)
	}
	if !c.IPTables {
		return network.FirewallNone, nil
	}
	return kind, nil
}

// network turns the settings into the network's own, and refuses those that
// contradict each other.
func (c *Config) network() (network.Config, error) {
	out := network.Config{
		ExecRoot: c.ExecRoot, IPForward: c.IPForward, ForwardOpen: c.ForwardNoDrop, UserlandProxy: c.UserlandProxy,
		NoIPv6Firewall: !c.IP6Tables, ResolvConf: c.ResolvConf, Spares: c.SpareSandboxes, FastPath: c.FastPath,
	}
	if out.Spares < 0 || out.Spares > 64 {
		return out, fmt.Errorf("--spare-sandboxes %d: want 0 to 64", out.Spares)
	}
	var err error
	if out.Firewall, err = c.firewall(); err != nil {
		return out, err
	}
	out.AllowDirectRouting = c.DirectRouting
	if out.AcceptMark, err = c.acceptMark(); err != nil {
		return out, err
	}
	d := network.DefaultNetwork{Bridge: c.BridgeName, MTU: c.MTU, Masquerade: c.IPMasq, Disabled: c.Bridge == "none"}
	if c.Bridge != "" && !d.Disabled {
		if c.BIP != "" {
			return out, errors.New("--bridge and --bip are mutually exclusive: an existing bridge keeps its own address")
		}
		d.Foreign = c.Bridge
	}
	for flag, name := range map[string]string{"--bridge": d.Foreign, "--bridge-name": d.Bridge} {
		if name == "" {
			continue
		}
		if err := plan.CheckInterfaceName(name); err != nil {
			return out, fmt.Errorf("%s: %w", flag, err)
		}
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) {
		return out, fmt.Errorf("--mtu %d: an MTU is 68 to 65535", c.MTU)
	}
	read := func(flag, val string, into *netip.Prefix) {
		if val == "" || err != nil {
			return
		}
		if *into, err = netip.ParsePrefix(val); err != nil {
			err = fmt.Errorf("--%s %q is not an address with its length, such as 192.168.5.1/24: %w", flag, val, err)
		}
	}
	readAddr := func(flag, val string, into *netip.Addr) {
		if val == "" || err != nil {
			return
		}
		if *into, err = netip.ParseAddr(val); err != nil {
			err = fmt.Errorf("--%s %q is not an address: %w", flag, val, err)
		}
	}
	read("bip", c.BIP, &d.Address)
	read("fixed-cidr", c.FixedCIDR, &d.Range)
	readAddr("default-gateway", c.DefaultGateway, &d.Gateway)
	readAddr("ip", c.IP, &d.HostBinding)
	d.ICC, d.IPv6 = c.ICC, c.IPv6
	read("bip6", c.BIP6, &d.Address6)
	read("fixed-cidr-v6", c.FixedCIDR6, &d.Range6)
	readAddr("default-gateway-v6", c.DefaultGateway6, &d.Gateway6)
	if err == nil {
		err = c.checkDefaultNetwork(d)
	}
	out.NetworkOptions = c.NetworkOptions[spec.DriverBridge]
	if d.HostBinding.IsUnspecified() {
		d.HostBinding = netip.Addr{} // every address of both families
	}
	out.Default = d
	for _, p := range c.AddressPools {
		pool := ipam.AddressPool{Size: p.Size}
		read("default-address-pool base", p.Base, &pool.Base)
		if err == nil {
			err = pool.Check()
		}
		out.Pools = append(out.Pools, pool)
	}
	return out, err
}

// check settles what follows from other settings, and refuses what cannot be.
func (c *Config) check() error {
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("--log-format %q: want text or json", c.LogFormat)
	}
	for name, path := range map[string]string{"data-root": c.DataRoot, "exec-root": c.ExecRoot, "resolv-conf": c.ResolvConf} {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "\n\t ,:") {
			return fmt.Errorf("--%s %q: want an absolute path without spaces, commas or colons", name, path)
		}
	}
	if _, err := c.hostGateways(); err != nil {
		return err
	}
	if err := c.settleHosts(); err != nil {
		return err
	}
	if err := c.contradictions(); err != nil {
		return err
	}
	if c.PIDFile == "" {
		c.PIDFile = c.ExecRoot + "/fairlead.pid"
	}
	if _, err := logLevel(c.LogLevel); err != nil {
		return err
	}
	if c.Debug {
		c.LogLevel = "debug"
	}
	if _, err := c.dnsServers(); err != nil {
		return err
	}
	return errors.Join(c.containerSettings.check(), c.registrySettings.check(), c.metricsSettings.check(), c.refuse())
}
