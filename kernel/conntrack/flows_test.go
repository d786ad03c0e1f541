package conntrack_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/netns"
)

// TestFlows: the table is read with what flows asked for and who answers them, by one
// family and the other; their bytes where the kernel counts them.
func TestFlows(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	read := func(translated bool) (all map[netip.AddrPort]conntrack.Flow, counts bool) {
		all = make(map[netip.AddrPort]conntrack.Flow)
		if err := netns.Do(ns, func() error {
			counts = conntrack.Accounting()
			return conntrack.Flows(translated, func(f conntrack.Flow) { all[f.To] = f })
		}); err != nil {
			t.Fatal(err)
		}
		return all, counts
	}
	if all, counts := read(false); len(all) != 0 || counts {
		t.Errorf("of nothing there is %v, counted %t", all, counts)
	}
	send(t, ns, "127.0.0.1:53", "127.0.0.3:99", "[::1]:99")
	at := netip.MustParseAddrPort
	all, _ := read(false)
	if len(all) != 3 || all[at("127.0.0.1:53")].From != at("127.0.0.9:5353") || all[at("[::1]:99")].From != at("[::1]:99") || all[at("127.0.0.3:99")].Proto != unix.IPPROTO_UDP {
		t.Errorf("the table: %v", all)
	}
	if all[at("127.0.0.1:53")].ID == all[at("[::1]:99")].ID || all[at("127.0.0.1:53")].Bytes != 0 {
		t.Errorf("flows are not told apart, or counted: %v", all)
	}
	first := all[at("127.0.0.1:53")].ID
	run(t, ns.Name(), "sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1")
	send(t, ns, "127.0.0.1:53", "[::1]:98")
	all, counts := read(true)
	if len(all) != 1 || !counts {
		t.Errorf("of what is translated: %v, counted %t", all, counts)
	}
	if all[at("127.0.0.1:53")].From != at("127.0.0.9:5353") {
		t.Errorf("translated: %v, before it was flow %d", all, first)
	}
	all, _ = read(false)
	if got := all[at("[::1]:98")].Bytes; got < 48 || got > 2000 {
		t.Errorf("a datagram has %d bytes", got)
	}
}

// TestFlowsOver: a connection is over when both sides have closed it, and not before.
func TestFlowsOver(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for _, server := range []string{"127.0.0.1:80", "[::1]:80"} {
		var here, there net.Conn
		if err := netns.Do(ns, func() error {
			l, err := net.Listen("tcp", server)
			if err != nil {
				return err
			}
			defer l.Close()
			if here, err = net.Dial("tcp", server); err != nil {
				return err
			}
			there, err = l.Accept()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		over := func() (over bool) {
			found := false
			if err := netns.Do(ns, func() error {
				return conntrack.Flows(false, func(f conntrack.Flow) {
					if f.To == netip.MustParseAddrPort(server) {
						found, over = true, f.Over
					}
				})
			}); err != nil || !found {
				t.Fatalf("%s: found %t, %v", server, found, err)
			}
			return over
		}
		if over() {
			t.Errorf("%s: over, and both sides have it open", server)
		}
		if err := here.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if over() {
			t.Errorf("%s: over, and one side has it open", server)
		}
		if err := errors.Join(there.Close(), here.Close()); err != nil {
			t.Fatal(err)
		}
		// The last segments may be under way.
		for end := time.Now().Add(10 * time.Second); !over(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: both sides have closed it, and it is not over", server)
			}
		}
	}
}
