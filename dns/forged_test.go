package dns

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	wire "github.com/miekg/dns"
)

// What answers another question, or comes with another ID, is not believed. Where more
// of it comes, the server is asked by TCP, whose sequence numbers nobody guesses.
func TestForgedAnswersAreNotBelieved(t *testing.T) {
	t.Parallel()
	forgeries := []func(*wire.Msg){
		func(m *wire.Msg) { m.Id++ },
		func(m *wire.Msg) { m.Response = false },
		func(m *wire.Msg) { m.Question[0].Name = "y.example." },
		func(m *wire.Msg) { m.Question[0].Qtype = wire.TypeAAAA },
		func(m *wire.Msg) { m.Question = nil },
		func(m *wire.Msg) { m.Opcode = wire.OpcodeNotify },
	}
	var forged []func(*wire.Msg) // before the true answer, by UDP
	u := &upstream{answer: func(a asked) (out []*wire.Msg, _ error) {
		for _, f := range forged {
			m := says(a, wire.RcodeSuccess, "x.example. 60 IN A 6.6.6.6")
			f(m)
			if out = append(out, m); a.network == "tcp" {
				out = nil
			}
		}
		last := "192.0.2.7"
		if a.network == "tcp" {
			last = "192.0.2.8"
		}
		return append(out, says(a, wire.RcodeSuccess, "x.example. 0 IN A "+last)), nil
	}}
	r := New(u, slog.New(slog.DiscardHandler))
	r.SetUpstreams(hosts("192.0.2.1"))
	outward(r, "a")
	believed := func() string { return said(ask(t, r, "a", question("x.example", wire.TypeA), UDP)) }
	for i := range forgeries {
		if forged = forgeries[i : i+1]; believed() != "NOERROR 192.0.2.7" {
			t.Errorf("forgery %d was believed, or kept the answer away", i)
		}
	}
	forged = forgeries[:nearMisses-1]
	if got := believed(); got != "NOERROR 192.0.2.7" {
		t.Errorf("after %d forgeries: %s", len(forged), got)
	}
	forged = slices.Concat(forgeries[:nearMisses], []func(*wire.Msg){func(*wire.Msg) {}})
	if got := believed(); got != "NOERROR 192.0.2.8" {
		t.Errorf("a good guess after %d bad ones was not asked for by TCP: %s", nearMisses, got)
	}
	forged = nil
	ids := make(map[uint16]bool)
	for i := range 50 {
		ask(t, r, "a", question(fmt.Sprintf("n%d.example", i), wire.TypeA), UDP)
	}
	for _, a := range u.log() {
		ids[a.query.Id] = true
	}
	if len(ids) < 40 {
		t.Errorf("only %d IDs in 51 queries", len(ids))
	}
}
