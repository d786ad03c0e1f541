// Package firewalld has the firewalld of this network namespace let our bridges'
// traffic through, by its D-Bus interface (firewalld.dbus(5)). Rules of firewalld's
// own would not do: it replaces them at every reload, and its newer versions own
// their table.
//
// What must not live here: which bridges are wanted, and chains of other programs
// (package nft, package iptables).
package firewalld

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/godbus/dbus/v5"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

const (
	service    = "org.fedoraproject.FirewallD1"
	object     = dbus.ObjectPath("/org/fedoraproject/FirewallD1")
	configPath = dbus.ObjectPath("/org/fedoraproject/FirewallD1/config")

	zoneInterface   = service + ".zone"
	policyInterface = service + ".policy"
	configInterface = service + ".config"
)

// The names in firewalld's configuration, which has at most 17 bytes for each. All
// daemons of a host share them.
const (
	// Zone has our bridges and accepts all that comes from them; what containers
	// may not do is said by rules of ours.
	Zone = "fairlead"
	// Policy accepts what is forwarded from any zone to ours.
	Policy = "fairlead-forward"
)

// Conn is a connection to the bus that firewalld is on.
type Conn struct {
	bus     *dbus.Conn
	signals chan *dbus.Signal
}

// Dial connects to the system bus (DBUS_SYSTEM_BUS_ADDRESS, else its well-known
// place). It returns errdefs.ErrNotFound where there is none.
func Dial(ctx context.Context) (*Conn, error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return nil, fmt.Errorf("%w: no D-Bus to look for firewalld: %w", errdefs.ErrNotFound, err)
	}
	c := &Conn{bus: bus, signals: make(chan *dbus.Signal, 16)}
	bus.Signal(c.signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, service)},
		{dbus.WithMatchSender(service), dbus.WithMatchInterface(service), dbus.WithMatchMember("Reloaded")},
	} {
		if err := bus.AddMatchSignalContext(ctx, match...); err != nil {
			return nil, errors.Join(fmt.Errorf("subscribe to firewalld's signals: %w", err), bus.Close())
		}
	}
	return c, nil
}

// Signals delivers a value whenever firewalld came, went or reloaded, and is closed
// when the bus is gone.
func (c *Conn) Signals() <-chan *dbus.Signal { return c.signals }

// Close ends the connection.
func (c *Conn) Close() error { return c.bus.Close() }

// Running says whether a firewalld of this network namespace is there: one that is
// on the bus and serves another is none of ours.
func (c *Conn) Running(ctx context.Context) (bool, error) {
	var pid uint32
	err := c.bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, service).Store(&pid)
	if named(err, "NameHasNoOwner") {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for firewalld: %w", err)
	}
	theirs, err := os.Readlink("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/ns/net")
	if err != nil {
		return false, nil //nolint:nilerr // it has just ended, or is in another process namespace
	}
	ours, err := os.Readlink("/proc/thread-self/ns/net")
	return err == nil && theirs == ours, err
}

// Serve has the interfaces in our zone, and makes the zone and the policy where they
// are not there, which takes a reload. Interfaces of the zone that are gone from the
// host leave it. What it changed is returned in words; an interface that is in
// somebody else's zone stays there, and is an error.
func (c *Conn) Serve(ctx context.Context, interfaces []string) (done []string, err error) {
	made, err := c.ensureConfig(ctx)
	if err != nil {
		return nil, err
	}
	if made {
		done = append(done, "zone "+Zone+" and policy "+Policy+" added, and firewalld reloaded")
	}
	have, err := c.interfaces(ctx)
	if err != nil {
		return done, err
	}
	var errs []error
	for _, name := range interfaces {
		if slices.Contains(have, name) {
			continue
		}
		if err := c.join(ctx, name); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, name+" added to zone "+Zone)
	}
	for _, name := range have {
		if _, err := net.InterfaceByName(name); err != nil && !slices.Contains(interfaces, name) {
			errs = append(errs, c.leave(ctx, name))
		}
	}
	return done, errors.Join(errs...)
}

// Lack is what Serve would put right, a line each, and changes nothing.
func (c *Conn) Lack(ctx context.Context, interfaces []string) (lines []string, err error) {
	whole, _, err := c.configured(ctx)
	if err != nil {
		return nil, err
	}
	if !whole {
		lines = append(lines, "firewalld lacks zone "+Zone+" or policy "+Policy)
	}
	have, err := c.interfaces(ctx)
	for _, name := range interfaces {
		if err == nil && !slices.Contains(have, name) {
			lines = append(lines, "firewalld: "+name+" is not in zone "+Zone)
		}
	}
	return lines, err
}

// Withdraw takes the interfaces out of our zone.
func (c *Conn) Withdraw(ctx context.Context, interfaces ...string) error {
	var errs []error
	for _, name := range interfaces {
		errs = append(errs, c.leave(ctx, name))
	}
	return errors.Join(errs...)
}

// Remove takes the zone and the policy away, where no interface is left in it.
func (c *Conn) Remove(ctx context.Context) error {
	if left, err := c.interfaces(ctx); err != nil || len(left) > 0 {
		return err // another daemon's
	}
	var errs []error
	removed := false
	for _, part := range []struct{ find, name, remove string }{
		{"getPolicyByName", Policy, configInterface + ".policy.remove"},
		{"getZoneByName", Zone, configInterface + ".zone.remove"},
	} {
		var path dbus.ObjectPath
		err := c.config(ctx, part.find, part.name).Store(&path)
		if err == nil {
			err = c.bus.Object(service, path).CallWithContext(ctx, part.remove, 0).Err
			removed = removed || err == nil
		}
		if !missing(err) {
			errs = append(errs, wrap("remove "+part.name, err))
		}
	}
	if removed {
		errs = append(errs, c.reload(ctx))
	}
	return errors.Join(errs...)
}

// ensureConfig makes the zone and the policy in the permanent configuration, which
// alone can have new ones, and loads them.
func (c *Conn) ensureConfig(ctx context.Context) (made bool, err error) {
	whole, noPolicies, err := c.configured(ctx)
	if err != nil || whole {
		return false, err
	}
	const about = "Fairlead's container networks; made and removed by it"
	err = c.config(ctx, "addZone2", Zone, map[string]any{"short": Zone, "description": about, "target": "ACCEPT"}).Err
	if err != nil && !conflicts(err) {
		return false, wrap("add zone "+Zone, err)
	}
	if !noPolicies {
		err = c.config(ctx, "addPolicy", Policy, map[string]any{
			"short": Policy, "description": about, "target": "ACCEPT",
			"ingress_zones": []string{"ANY"}, "egress_zones": []string{Zone},
		}).Err
		if err != nil && !conflicts(err) {
			return false, wrap("add policy "+Policy, err)
		}
	}
	return true, c.reload(ctx)
}

// configured says whether the zone and the policy are there, and whether this firewalld
// knows no policies.
func (c *Conn) configured(ctx context.Context) (whole, noPolicies bool, err error) {
	var zones, policies []string
	if err := c.call(ctx, zoneInterface, "getZones").Store(&zones); err != nil {
		return false, false, wrap("list zones", err)
	}
	err = c.call(ctx, policyInterface, "getPolicies").Store(&policies)
	noPolicies = named(err, "UnknownMethod") // before firewalld 0.9
	if err != nil && !noPolicies {
		return false, false, wrap("list policies", err)
	}
	return slices.Contains(zones, Zone) && (noPolicies || slices.Contains(policies, Policy)), noPolicies, nil
}

// join puts the interface into our zone, unless it is in another already.
func (c *Conn) join(ctx context.Context, name string) error {
	var zone string
	err := c.call(ctx, zoneInterface, "getZoneOfInterface", name).Store(&zone)
	switch {
	case err != nil:
		return wrap("ask for the zone of "+name, err)
	case zone == Zone:
		return nil
	case zone != "":
		return fmt.Errorf("%s is in firewalld's zone %s and is left there: have that zone accept what containers send and get, or take it out: %w", name, zone, errdefs.ErrConflict)
	}
	return wrap("add "+name+" to zone "+Zone, c.call(ctx, zoneInterface, "addInterface", Zone, name).Err)
}

func (c *Conn) leave(ctx context.Context, name string) error {
	err := c.call(ctx, zoneInterface, "removeInterface", Zone, name).Err
	if missing(err) {
		return nil
	}
	return wrap("take "+name+" out of zone "+Zone, err)
}

// interfaces lists those of our zone.
func (c *Conn) interfaces(ctx context.Context) (names []string, err error) {
	err = c.call(ctx, zoneInterface, "getInterfaces", Zone).Store(&names)
	if missing(err) {
		return nil, nil
	}
	return names, wrap("list the interfaces of zone "+Zone, err)
}

func (c *Conn) call(ctx context.Context, in, method string, args ...any) *dbus.Call {
	if err := faultpoint.Here("firewalld.call"); err != nil {
		return &dbus.Call{Err: err}
	}
	return c.bus.Object(service, object).CallWithContext(ctx, in+"."+method, 0, args...)
}

func (c *Conn) config(ctx context.Context, method string, args ...any) *dbus.Call {
	if err := faultpoint.Here("firewalld.config"); err != nil {
		return &dbus.Call{Err: err}
	}
	return c.bus.Object(service, configPath).CallWithContext(ctx, configInterface+"."+method, 0, args...)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("firewalld: %s: %w", what, err)
}

// named says that the error is that of the bus.
func named(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && strings.HasSuffix(e.Name, "."+name)
}

// missing and conflicts tell errors of firewalld's by the word its messages begin
// with (firewall/errors.py).
func missing(err error) bool {
	return says(err, "INVALID_ZONE", "INVALID_POLICY", "UNKNOWN_INTERFACE", "ZONE_CONFLICT")
}

func conflicts(err error) bool { return says(err, "NAME_CONFLICT") }

func says(err error, words ...string) bool {
	var e dbus.Error
	if !errors.As(err, &e) || len(e.Body) == 0 {
		return false
	}
	text, _ := e.Body[0].(string)
	return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(text, w) })
}
