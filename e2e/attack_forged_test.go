package e2e

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/craft"
)

// forger answers the host's queries before the server does, as if it were the server. It
// is told of each query by the server, for from where it is it hears none.
type forger struct {
	wire *craft.Wire
	via  net.HardwareAddr

	mu         sync.Mutex
	ports, ids map[uint16]bool
	heard      int
	err        error
}

// falseAnswer is one that guesses.
type falseAnswer struct {
	*wire.Msg
	craft.Packet
}

const forgedAddr = "203.0.113.99"

// guesses are the ways to be wrong, each in the one thing that is not known; i counts the
// packets of a volley. The first is right.
var guesses = map[string]func(f *falseAnswer, i uint16){
	"right":    func(*falseAnswer, uint16) {},
	"id":       func(f *falseAnswer, i uint16) { f.Id += 1 + i },
	"question": func(f *falseAnswer, _ uint16) { f.Question[0].Name = "x" + f.Question[0].Name },
	"type":     func(f *falseAnswer, _ uint16) { f.Question[0].Qtype = wire.TypeTXT },
	"port":     func(f *falseAnswer, i uint16) { f.Dst = netip.AddrPortFrom(f.Dst.Addr(), f.Dst.Port()+1+i) },
	"server":   func(f *falseAnswer, _ uint16) { f.Src = netip.AddrPortFrom(f.Src.Addr().Prev(), 53) },
	"service":  func(f *falseAnswer, i uint16) { f.Src = netip.AddrPortFrom(f.Src.Addr(), 54+i) },
}

// volleys are how many packets of a guess come: one, which is passed over, and many, as
// somebody sends who guesses by chance.
var volleys = map[string]uint16{"one": 1, "many": 100}

// forge sends what the query's name asks for, guess-volley-…, and gives it the time to
// arrive.
func (f *forger) forge(q *wire.Msg, from, server netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard++
	f.ports[from.Port()], f.ids[q.Id] = true, true
	words := strings.SplitN(strings.ToLower(q.Question[0].Name), "-", 3)
	if len(words) != 3 {
		return
	}
	for i := range volleys[words[1]] {
		forged := falseAnswer{new(wire.Msg).SetReply(q), craft.Packet{Proto: "udp", Src: server, Dst: from}}
		rr, err := wire.NewRR(q.Question[0].Name + " 60 IN A " + forgedAddr)
		if err == nil {
			forged.Msg.Answer = []wire.RR{rr}
			guesses[words[0]](&forged, i)
			var text []byte
			text, err = forged.Pack()
			forged.Text = string(text)
		}
		if err == nil {
			err = f.wire.Send(f.via, forged.Packet)
		}
		if err != nil {
			f.err = err
			return
		}
	}
	time.Sleep(20 * time.Millisecond)
}

// forged is row 25: lan, off the path, forges answers to what the host asks, and is
// right in all but one thing.
func (n *namesRange) forged(t *testing.T, r *attackRange) {
	f := &forger{via: hardware(t, r.host, host4), ports: map[uint16]bool{}, ids: map[uint16]bool{}}
	if err := r.lan.Do(func() (err error) { f.wire, err = craft.Open("eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer f.wire.Close()
	for _, server := range []string{far4, far6} {
		n.ask(server)
		s := n.far[server]
		s.beforehand(func(q *wire.Msg, from netip.AddrPort) { f.forge(q, from, netip.MustParseAddrPort(at(server, "53"))) })
		before := s.count()
		eventually(t, "the server at "+server+" is asked", func() bool {
			_, err := query(r.a1.Host, "udp", resolver, label("first")+".site.example", wire.TypeA)
			return err == nil && s.count() > before
		})
		var wg sync.WaitGroup
		for guess := range guesses {
			for volley := range volleys {
				want := "NOERROR " + external
				if guess == "right" {
					want = "NOERROR " + forgedAddr
				}
				wg.Go(func() {
					name := label(guess+"-"+volley) + ".site.example"
					for _, proto := range []string{"udp", "tcp"} { // the second finds what is kept of the first
						if got, err := query(r.a1.Host, proto, resolver, name, wire.TypeA); err != nil || got != want {
							t.Errorf("%s: %q, %v; want %q", name, got, err, want)
						}
					}
				})
			}
		}
		wg.Wait()
		s.beforehand(nil)
	}
	n.ask(far4)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		t.Error(f.err)
	}
	if f.heard < 20 || len(f.ports) < f.heard*4/5 || len(f.ids) < f.heard*4/5 {
		t.Errorf("%d queries came from %d ports with %d IDs", f.heard, len(f.ports), len(f.ids))
	}
}
