package relay

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/lab/resolvedtest"
)

// hostServer answers everything, on an address of the loopback of its own, after
// the time given.
func hostServer(t *testing.T, addr, answer string, after time.Duration) {
	t.Helper()
	pc, err := net.ListenPacket("udp", addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	s := &wire.Server{PacketConn: pc, Handler: wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		time.Sleep(after)
		m := new(wire.Msg).SetReply(q)
		rr, _ := wire.NewRR(q.Question[0].Name + " 0 IN A " + answer)
		m.Answer = append(m.Answer, rr)
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ActivateAndServe()
	}()
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-done
	})
}

// becomes waits until the name has the answer, which follows files and D-Bus.
func becomes(t *testing.T, at netip.AddrPort, name, want, why string) {
	t.Helper()
	var got string
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got, err = tryQuery("udp", at, name); err == nil && got == want {
			return
		}
	}
	t.Errorf("%s: %q, %v; want %q", why, got, err, want)
}

// The host's servers are those its file names now, however that came about.
func TestTheHostsServersAreFollowed(t *testing.T) {
	t.Parallel()
	hostServer(t, "127.83.1.1", "192.0.2.1", 0)
	hostServer(t, "127.83.1.2", "192.0.2.2", 0)
	c := ensure(t, t.TempDir(), "command")
	dir := t.TempDir()
	files := HostFiles{ResolvConf: filepath.Join(dir, "resolv.conf"), Uplinks: filepath.Join(dir, "uplinks")}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, _ := resolve(t, c, named("a", "10.0.0.1", "a"))
	becomes := func(want, why string) { t.Helper(); becomes(t, at, "x.example", want, why) }
	becomes("SERVFAIL", "not told of any file")
	write("resolv.conf", "nameserver 127.83.1.1\n")
	if err := c.FollowHost(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	becomes("NOERROR 192.0.2.1", "read")
	write("resolv.conf", "nameserver 127.83.1.2\n")
	becomes("NOERROR 192.0.2.2", "written in place")
	write("other", "nameserver 127.83.1.1\n")
	if err := os.Rename(filepath.Join(dir, "other"), files.ResolvConf); err != nil {
		t.Fatal(err)
	}
	becomes("NOERROR 192.0.2.1", "replaced")
	write("target", "nameserver 127.83.1.2\n")
	if err := errors.Join(os.Remove(files.ResolvConf), os.Symlink("target", files.ResolvConf)); err != nil {
		t.Fatal(err)
	}
	becomes("NOERROR 192.0.2.2", "a link")
	write("uplinks", "nameserver 127.83.1.1\n")
	write("target", "nameserver 127.0.0.53\n")
	becomes("NOERROR 192.0.2.1", "systemd-resolved's stub, which does not answer here, and whom it asks")

	// What no watch tells of: the directory above was exchanged.
	files = HostFiles{ResolvConf: filepath.Join(dir, "above", "etc", "resolv.conf")}
	write("mine", "nameserver 127.83.1.2\n")
	above := func(name, conf string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, name, "etc"), 0o700), os.Link(filepath.Join(dir, conf), filepath.Join(dir, name, "etc", "resolv.conf"))); err != nil {
			t.Fatal(err)
		}
	}
	above("above", "mine")
	above("next", "uplinks")
	for range 2 { // a daemon that is started again says the same again
		if err := c.FollowHost(t.Context(), files); err != nil {
			t.Fatal(err)
		}
		becomes("NOERROR 192.0.2.2", "told where")
	}
	if err := errors.Join(os.Rename(filepath.Join(dir, "above"), filepath.Join(dir, "former")), os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "above"))); err != nil {
		t.Fatal(err)
	}
	if err := c.FollowHost(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	becomes("NOERROR 192.0.2.1", "told again")
	write("uplinks", "nameserver 127.83.1.2\n")
	becomes("NOERROR 192.0.2.2", "told again, and written")
}

// Domains that systemd-resolved gives to a link are asked of that link's servers.
func TestDomainsWithServersOfTheirOwn(t *testing.T) {
	t.Parallel()
	hostServer(t, "127.83.4.1", "192.0.2.1", 0)
	hostServer(t, "127.83.4.2", "192.0.2.2", 0)
	bus := resolvedtest.Start(t)
	c := ensureOptions(t, Options{
		ExecRoot: t.TempDir(), Build: "resolved", Logger: slog.New(slog.DiscardHandler),
		Env: append(environ("resolved"), "DBUS_SYSTEM_BUS_ADDRESS="+bus.Address),
	})
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.83.4.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bus.Set([]resolvedtest.Server{resolvedtest.At(7, "127.83.4.2:53")}, []resolvedtest.Domain{{Link: 7, Name: "corp.example", RouteOnly: true}})
	if err := c.FollowHost(t.Context(), HostFiles{ResolvConf: conf}); err != nil {
		t.Fatal(err)
	}
	at, _ := resolve(t, c, named("a", "10.0.0.1", "a"))
	becomes := func(name, want string) { t.Helper(); becomes(t, at, name, want, name) }
	becomes("x.corp.example", "NOERROR 192.0.2.2")
	becomes("corp.example", "NOERROR 192.0.2.2")
	becomes("x.example", "NOERROR 192.0.2.1")
	bus.Set([]resolvedtest.Server{resolvedtest.At(7, "127.83.4.2:53")}, []resolvedtest.Domain{{Link: 7, Name: "lab.example"}})
	becomes("y.lab.example", "NOERROR 192.0.2.2")
	becomes("y.corp.example", "NOERROR 192.0.2.1")
	if err := bus.Leave(); err != nil {
		t.Fatal(err)
	}
	becomes("z.lab.example", "NOERROR 192.0.2.1")
}
