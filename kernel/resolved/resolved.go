// Package resolved asks systemd-resolved which domains have name servers of their
// own, by its D-Bus interface (org.freedesktop.resolve1(5)): a resolv.conf cannot say
// so.
//
// What is done with the domains, and names themselves, are somebody else's business.
package resolved

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/godbus/dbus/v5"
)

const (
	service = "org.freedesktop.resolve1"
	object  = dbus.ObjectPath("/org/freedesktop/resolve1")
	manager = service + ".Manager"
)

// dnsPort is where a server answers that names no other.
const dnsPort = 53

// Route sends names under a domain to servers of its own. The domain "" is every name
// that no other route has.
type Route struct {
	Domain  string
	Servers []netip.AddrPort
}

// Conn is a connection to the bus that systemd-resolved is on.
type Conn struct {
	bus     *dbus.Conn
	changed chan struct{}
}

// Dial connects to the system bus (DBUS_SYSTEM_BUS_ADDRESS, else its well-known
// place). It returns errdefs.ErrNotFound where there is none.
func Dial(ctx context.Context) (*Conn, error) {
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, fmt.Errorf("%w: no D-Bus to look for systemd-resolved: %w", errdefs.ErrNotFound, err)
	}
	c := &Conn{bus: bus, changed: make(chan struct{}, 1)}
	signals := make(chan *dbus.Signal, 16)
	bus.Signal(signals)
	go c.tell(signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, service)},
		{
			dbus.WithMatchSender(service), dbus.WithMatchObjectPath(object),
			dbus.WithMatchInterface("org.freedesktop.DBus.Properties"), dbus.WithMatchMember("PropertiesChanged"),
		},
	} {
		if err := bus.AddMatchSignalContext(ctx, match...); err != nil {
			return nil, errors.Join(fmt.Errorf("subscribe to systemd-resolved's signals: %w", err), bus.Close())
		}
	}
	return c, nil
}

// Changed delivers a value when what Routes says may have changed since the last, and
// is closed when the bus is gone.
func (c *Conn) Changed() <-chan struct{} { return c.changed }

func (c *Conn) tell(signals <-chan *dbus.Signal) {
	for range signals {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
	close(c.changed)
}

// Close ends the connection.
func (c *Conn) Close() error { return c.bus.Close() }

// server is one of the property DNSEx, whose last field is a name for TLS.
type server struct {
	Link   int32
	Family int32
	Addr   []byte
	Port   uint16
	Name   string
}

// domain is one of the property Domains.
type domain struct {
	Link int32
	Name string
	// RouteOnly says that it is no search domain; both are routes.
	RouteOnly bool
}

// Routes returns the domains that a link has and the servers of that link, by domain.
// There are none where no systemd-resolved of this network namespace runs: it is not
// started for the question.
func (c *Conn) Routes(ctx context.Context) ([]Route, error) {
	if here, err := c.running(ctx); err != nil || !here {
		return nil, err
	}
	servers, err := c.servers(ctx)
	if err != nil {
		return nil, err
	}
	var domains []domain
	if err := c.property(ctx, "Domains", &domains); err != nil {
		return nil, err
	}
	return routes(servers, domains), nil
}

// routes joins servers and domains by link; link 0 is of the whole host.
func routes(servers []server, domains []domain) []Route {
	of := make(map[string][]netip.AddrPort)
	for _, d := range domains {
		name := strings.ToLower(strings.Trim(strings.TrimPrefix(d.Name, "~"), "."))
		if d.Link == 0 && name != "" {
			continue // searched by the servers that are asked anyway
		}
		for _, s := range servers {
			if a, ok := s.address(); ok && s.Link == d.Link && !slices.Contains(of[name], a) {
				of[name] = append(of[name], a)
			}
		}
	}
	out := make([]Route, 0, len(of))
	for name, servers := range of {
		out = append(out, Route{name, servers})
	}
	slices.SortFunc(out, func(a, b Route) int { return cmp.Compare(a.Domain, b.Domain) })
	return out
}

func (s server) address() (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(s.Addr)
	if !ok {
		return netip.AddrPort{}, false
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(strconv.Itoa(int(s.Link)))
	}
	return netip.AddrPortFrom(a, cmp.Or(s.Port, dnsPort)), true
}

// servers reads DNSEx (systemd 246), or DNS, which knows no ports.
func (c *Conn) servers(ctx context.Context) ([]server, error) {
	var out []server
	err := c.property(ctx, "DNSEx", &out)
	if err == nil {
		return out, nil
	}
	var old []struct {
		Link, Family int32
		Addr         []byte
	}
	if oldErr := c.property(ctx, "DNS", &old); oldErr != nil {
		return nil, errors.Join(err, oldErr)
	}
	for _, s := range old {
		out = append(out, server{Link: s.Link, Family: s.Family, Addr: s.Addr})
	}
	return out, nil
}

func (c *Conn) property(ctx context.Context, name string, into any) error {
	var v dbus.Variant
	err := c.bus.Object(service, object).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, manager, name).Store(&v)
	if err == nil {
		err = v.Store(into)
	}
	if err != nil {
		return fmt.Errorf("ask systemd-resolved for %s: %w", name, err)
	}
	return nil
}

// running says whether one of this network namespace is there.
func (c *Conn) running(ctx context.Context) (bool, error) {
	var pid uint32
	err := c.bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, service).Store(&pid)
	if e := (dbus.Error{}); errors.As(err, &e) && e.Name == "org.freedesktop.DBus.Error.NameHasNoOwner" {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for systemd-resolved: %w", err)
	}
	theirs, err := os.Stat("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/ns/net")
	if err != nil {
		return false, nil //nolint:nilerr // it has just ended, or is in another process namespace
	}
	ours, err := os.Stat("/proc/thread-self/ns/net")
	return err == nil && os.SameFile(theirs, ours), err
}
