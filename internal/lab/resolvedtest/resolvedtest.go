// Package resolvedtest is a systemd-resolved for tests, on a bus of its own.
package resolvedtest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// busConfig lets everybody do everything: the bus is the test's own.
const busConfig = `<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`

const (
	service = "org.freedesktop.resolve1"
	object  = dbus.ObjectPath("/org/freedesktop/resolve1")
	manager = service + ".Manager"
)

// Server is one of a link's name servers, in D-Bus's a(iiayqs).
type Server struct {
	Link, Family int32
	Addr         []byte
	Port         uint16
	Name         string
}

// Domain is one of a link's domains, in D-Bus's a(isb).
type Domain struct {
	Link      int32
	Name      string
	RouteOnly bool
}

// Resolved is the service.
type Resolved struct {
	// Address is the bus's, for DBUS_SYSTEM_BUS_ADDRESS.
	Address string
	bus     *dbus.Conn
	props   *prop.Properties
}

// Start starts a bus with the service on it, which knows no server and no domain.
func Start(t testing.TB) *Resolved {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "bus")
	conf := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, busConfig, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+conf, "--nofork", "--nopidfile")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r := &Resolved{Address: "unix:path=" + socket}
	var err error
	for range 500 {
		if r.bus, err = dbus.Connect(r.Address); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.bus.Close() })
	r.props, err = prop.Export(r.bus, object, prop.Map{manager: {
		"DNSEx":   {Value: []Server{}, Emit: prop.EmitTrue},
		"Domains": {Value: []Domain{}, Emit: prop.EmitTrue},
	}})
	if err == nil {
		_, err = r.bus.RequestName(service, dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Set has the service know these and no others, and tell so.
func (r *Resolved) Set(servers []Server, domains []Domain) {
	r.props.SetMust(manager, "DNSEx", servers)
	r.props.SetMust(manager, "Domains", domains)
}

// At is a server of a link.
func At(link int32, address string) Server {
	ap := netip.MustParseAddrPort(address)
	family := int32(2)
	if ap.Addr().Is6() {
		family = 10
	}
	return Server{Link: link, Family: family, Addr: ap.Addr().AsSlice(), Port: ap.Port()}
}

// Leave ends the service; the bus stays.
func (r *Resolved) Leave() error {
	_, err := r.bus.ReleaseName(service)
	return err
}
