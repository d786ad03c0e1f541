package network

import (
	"context"
	"log/slog"
	"net/netip"
	"os"

	"github.com/fairlead/fairlead/internal/event"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/store"
)

// DefaultBridge is the device of the default network when no other is named.
const DefaultBridge = "fairlead0"

// Relay is what holds published ports and outlives the daemon; *relay.Client is
// one.
type Relay interface {
	// Hold takes sockets over. The caller may close its copies afterwards.
	Hold(ctx context.Context, bindings []relay.Binding) error
	// Replace makes the bindings all that the owner holds: a port that it holds
	// keeps its socket and gets the new backend, others come with a File.
	Replace(ctx context.Context, owner string, bindings []relay.Binding) error
	// Withdraw closes the ports that the owner holds; connections that are being
	// carried go on until Release.
	Withdraw(ctx context.Context, owner string) error
	// Release closes everything held for the owner, before it returns.
	Release(ctx context.Context, owner string) error
	// List says what is held.
	List(ctx context.Context) ([]relay.Binding, error)
	// KeepFirewallSocket has the relay keep a copy of the socket that owns
	// our table, and FirewallSocket gives one back, or nil.
	KeepFirewallSocket(ctx context.Context, f *os.File) error
	FirewallSocket(ctx context.Context) (*os.File, error)
	Resolvers
	// Keep has the relay keep copies of the files under a name, in place of
	// those it had, and Kept gives copies back.
	Keep(ctx context.Context, name string, files []*os.File) error
	Kept(ctx context.Context, name string) ([]*os.File, error)
}

// Config is what a Controller is made from.
type Config struct {
	ExecRoot string
	Store    *store.Store
	Relay    Relay
	Default  DefaultNetwork
	// Pools are what subnets are cut from; nil for ipam.DefaultPools.
	Pools []ipam.AddressPool
	// NetworkOptions are driver options of new networks that do not set them.
	NetworkOptions map[string]string
	// ResolvConf names the host's name servers; "" is /etc/resolv.conf.
	ResolvConf string
	// IPForward turns forwarding on where it is off.
	IPForward bool
	// ForwardOpen lets the host forward for everybody where we turned forwarding
	// on; else it does so for containers alone.
	ForwardOpen bool
	// Firewall is the back end; "" for FirewallNFTables.
	Firewall FirewallKind
	// NoIPv6Firewall makes no rule for IPv6.
	NoIPv6Firewall bool
	// AllowDirectRouting and AcceptMark are as in firewall.Policy.
	AllowDirectRouting bool
	AcceptMark         firewall.Mark
	// Spares is how many sandboxes are kept ready for those to come; 0 for none.
	Spares int
	// UserlandProxy serves loopback and the other family.
	UserlandProxy bool
	// FastPath has what containers of a network send each other pass the bridge by where
	// the kernel has the means (kernel/fastpath) and nobody else has a say.
	FastPath bool
	// Ahead is what was asked of the kernel before; nil has Open ask.
	Ahead *Ahead
	// Log is slog.Default() when nil.
	Log *slog.Logger
	// Events gets what happens of itself; nil for nobody.
	Events *event.Source
}

// DefaultNetwork is what the daemon was told of the network called bridge.
type DefaultNetwork struct {
	// Disabled leaves it out (daemon flag --bridge none).
	Disabled bool
	// Foreign names a bridge of the host's own to use (--bridge).
	Foreign string
	// Bridge names the device we make; "" for DefaultBridge.
	Bridge string
	// Address is the bridge's address with its length (--bip).
	Address netip.Prefix
	// Range is what container addresses are chosen from (--fixed-cidr).
	Range netip.Prefix
	// Gateway is the containers' default route where it is not the bridge.
	Gateway netip.Addr
	// IPv6 adds the family; the rest is as for IPv4 (--bip6, --fixed-cidr-v6,
	// --default-gateway-v6).
	IPv6             bool
	Address6, Range6 netip.Prefix
	Gateway6         netip.Addr
	// ICC lets its containers reach each other.
	ICC bool
	// MTU is 0 for 1500.
	MTU        int
	Masquerade bool
	// HostBinding is the host address for ports published without one.
	HostBinding netip.Addr
}

// bridgeName is the device of the default network, whoever made it.
func (d DefaultNetwork) bridgeName() string {
	if d.Foreign != "" {
		return d.Foreign
	}
	return d.Bridge
}
