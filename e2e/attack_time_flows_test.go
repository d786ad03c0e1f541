package e2e

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
)

// TestAttackFlows is row 26: a container opens flows, each by a packet of its own, as
// many as the host can track. It gets its share of them; the host, containers of
// another network and who asks for their published ports connect as before, and so do
// its own connections go on. A network that is not limited shows that it could.
func TestAttackFlows(t *testing.T) {
	attacked(t, nil, func(t *testing.T, r *attackRange) {
		r.Must("network", "create", "--ipv6", "-o", "com.fairlead.network.limit_connections=false", "free")
		r.idle("--name", "free", "--network", "free")
		r.idle("--name", "published", "--network", "B", "-p", "8090:80")
		for _, any := range []string{"0.0.0.0", "::"} {
			r.box("published").serve("tcp", at(any, "80"))
			r.lan.Listen("tcp", at(any, "9000"))
		}
	}, func(t *testing.T, r *attackRange) {
		if !full() && r.moment != atFirst {
			return // so many packets take half a minute
		}
		most, err := strconv.Atoi(r.host.Run("cat", "/proc/sys/net/netfilter/nf_conntrack_max"))
		if err != nil {
			t.Fatal(err)
		}
		// More than a share, by each of its two addresses; all there is takes longer.
		packets := most * 11 / 16
		if full() {
			packets = most * 5 / 4
		}
		if full() {
			// The control: who is not limited gets all that it asks for.
			if n := r.flood(r.box("free"), packets); n < min(packets, most)*9/10 {
				t.Errorf("cannot tell: without a limit there are %d flows, of %d packets and at most %d", n, packets, most)
			}
		}
		r.host.Run("conntrack", "-F")
		conn, err := r.a1.Dial("tcp", at(lan4, "9000"), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		n := r.flood(r.a1, packets)
		// A share is a quarter; what is counted is a part of all by chance.
		if n > most*19/32 || n < most/4 {
			t.Errorf("a container has filled %d of %d flows", n, most)
		}
		t.Logf("%s: %d flows of at most %d", r.moment, n, most)
		r.stillConnect()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte("!")); err != nil {
			t.Errorf("its own connection: %v", err)
		}
		if _, err := conn.Read(make([]byte, 100)); err != nil {
			t.Errorf("its own connection: %v", err)
		}
		r.host.Run("conntrack", "-F")
		for _, any := range []string{lan4, lan6} {
			eventuallyWithin(t, 30*time.Second, "it connects again", func() bool {
				_, err := r.a1.Ask("tcp", at(any, "9000"), 2*time.Second)
				return err == nil
			})
		}
	})
}

// stillConnect fails the test unless everybody else connects.
func (r *attackRange) stillConnect() {
	r.t.Helper()
	var wg sync.WaitGroup
	for _, p := range []lab.Probe{
		from(r.host, "tcp", at(lan4, "9000")), from(r.host, "tcp", at(lan6, "9000")),
		from(r.b1.Host, "tcp", at(lan4, "9000")), from(r.b1.Host, "tcp", at(lan6, "9000")),
		from(r.lan, "tcp", at(host4, "8090")), from(r.lan, "tcp", at(host6, "8090")),
		from(r.a2.Host, "tcp", at(lan4, "9000")), from(r.a2.Host, "tcp", at(lan6, "9000")),
	} {
		wg.Go(func() {
			for range 20 {
				if _, err := p.From.Ask(p.Proto, p.Addr, 5*time.Second); err != nil {
					r.t.Errorf("%s, while another container fills the table of connections: %v", p, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// flood has a container send so many datagrams, each of a flow of its own and half by
// each family, and returns how many flows the host tracks then.
func (r *attackRange) flood(b box, packets int) (flows int) {
	r.t.Helper()
	bridge := strings.Fields(b.Run("ip", "-4", "route", "show", "default"))[2]
	via := hardware(r.t, r.host, bridge)
	var wire *craft.Wire
	if err := b.Do(func() (err error) { wire, err = craft.Open("eth0"); return err }); err != nil {
		r.t.Fatal(err)
	}
	defer wire.Close()
	for _, way := range [][2]netip.Addr{{b.addr4, netip.MustParseAddr(lan4)}, {b.addr6, netip.MustParseAddr(lan6)}} {
		p := craft.Packet{Proto: "udp", Src: netip.AddrPortFrom(way[0], 1), Dst: netip.AddrPortFrom(way[1], 0)}
		bytes, err := p.Bytes()
		if err != nil {
			r.t.Fatal(err)
		}
		udp := bytes[len(bytes)-8:]
		sum := binary.BigEndian.Uint16(udp[6:])
		for i := range packets / 2 {
			// The source port takes off the checksum what the destination port adds.
			src, dst := uint16(1+i%60000), uint16(1+i/60000)
			binary.BigEndian.PutUint16(udp, src)
			binary.BigEndian.PutUint16(udp[2:], dst)
			binary.BigEndian.PutUint16(udp[6:], plus(sum, 1, src, dst))
			for err := wire.SendFrame(via, p.EtherType(), bytes); err != nil; err = wire.SendFrame(via, p.EtherType(), bytes) {
				if !errors.Is(err, unix.ENOBUFS) {
					r.t.Fatal(err)
				}
			}
		}
	}
	flows, err := strconv.Atoi(r.host.Run("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
	if err != nil {
		r.t.Fatal(err)
	}
	return flows
}

// plus is an Internet checksum after a port was another and a second one 0 (RFC 1624).
func plus(sum, former uint16, ports ...uint16) uint16 {
	v := uint32(^sum) + uint32(^former)
	for _, p := range ports {
		v += uint32(p)
	}
	for v > 0xffff {
		v = v>>16 + v&0xffff
	}
	if out := ^uint16(v); out != 0 {
		return out
	}
	return 0xffff
}

// eventuallyWithin is eventually for what takes longer.
func eventuallyWithin(t *testing.T, within time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("not within %s: %s", within, what)
			return
		}
	}
}
