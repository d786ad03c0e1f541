package drops

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestLost: drops that find no room in the ring, or that nobody asks for, are counted.
func TestLost(t *testing.T) {
	t.Parallel()
	host := lab.New(t).Host("a")
	to := netip.MustParseAddr("127.7.7.7")
	throw := func(n int) {
		t.Helper()
		err := host.Do(func() error {
			for range n {
				// Each of its own: an error that came back would keep the next from being sent.
				c, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String())
				if err != nil {
					return err
				}
				if _, err := c.Write([]byte("anybody")); err != nil {
					return err
				}
				_ = c.Close()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	at, err := findOffsets(kernel)
	if err != nil {
		t.Fatal(err)
	}
	full := &Watch{drops: make(chan Drop)}
	if err := full.load(at, []netip.Addr{to}, 4096); err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	throw(10)
	if n := full.Lost(); n != 0 {
		t.Errorf("%d are lost while there is room", n)
	}
	throw(40) // of which some 20 fit
	if n := full.Lost(); n < 10 || n > 100 {
		t.Errorf("%d of 50 are lost", n)
	}
	unread, err := Open([]netip.Addr{to})
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	throw(queued + 50)
	for deadline := time.Now().Add(20 * time.Second); unread.Lost() < 50; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are counted that nobody asked for", unread.Lost())
		}
	}
}
