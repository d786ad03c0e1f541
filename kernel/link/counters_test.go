package link_test

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// TestCounters: what one end of a cable sends the other receives, and both are listed.
func TestCounters(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host", "box")
	_, host := open(t, filepath.Join(dir, "host"))
	box, inside := open(t, filepath.Join(dir, "box"))
	must(t, host.CreateBridge(testBridge()))
	must(t, host.CreateVeth(link.Veth{Name: "veth0", MTU: 1500, Bridge: "br0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, PeerName: "eth0", PeerMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, PeerNS: box, Up: true}))
	must(t, inside.Configure("eth0", link.Config{Addrs: prefixes("172.17.0.2/16"), Up: true}))
	before, err := host.Counters()
	must(t, err)
	run(t, filepath.Join(dir, "box"), "ping", "-c3", "-i0.01", "-W2", "-s100", "172.17.0.1")
	after, err := host.Counters()
	must(t, err)
	// One way alone, but for short words that nobody listens there.
	must(t, netns.Do(box, func() error {
		c, err := net.Dial("udp", "172.17.0.1:9")
		if err != nil {
			return err
		}
		defer c.Close()
		for range 10 {
			_, _ = c.Write(make([]byte, 1400)) // which may tell of those words
		}
		return nil
	}))
	oneWay, err := host.Counters()
	must(t, err)
	if is, was := oneWay["veth0"], after["veth0"]; is.ReceivedBytes < was.ReceivedBytes+5*1442 || is.SentBytes-was.SentBytes > (is.ReceivedBytes-was.ReceivedBytes)/2 {
		t.Errorf("what came in alone: %+v, and %+v before", is, was)
	}
	other, err := inside.Counters()
	must(t, err)
	for _, name := range []string{"veth0", "br0"} {
		was, is := before[name], after[name]
		// 14 bytes of Ethernet, which a bridge does not count of what it receives, 20 of IP, 8 of ICMP.
		if is.ReceivedPackets < was.ReceivedPackets+3 || is.SentPackets < was.SentPackets+3 || is.ReceivedBytes < was.ReceivedBytes+3*128 || is.SentBytes < was.SentBytes+3*142 {
			t.Errorf("%s: %+v, and %+v before", name, is, was)
		}
	}
	if eth0 := other["eth0"]; eth0.SentBytes < 3*142 || eth0.ReceivedBytes < 3*142 {
		t.Errorf("the other end: %+v", eth0)
	}
	if lo, there := after["lo"]; !there || lo.SentBytes != 0 {
		t.Errorf("lo: %+v, %t", lo, there)
	}
}
