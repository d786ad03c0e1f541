package resolver

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/bench/report"
)

func TestNameserver(t *testing.T) {
	t.Parallel()
	for conf, want := range map[string]string{
		"nameserver 127.0.0.11\noptions ndots:0\n":          "127.0.0.11:53",
		"search dns.podman\nnameserver\t10.89.0.1\nother x": "10.89.0.1:53",
	} {
		if got, err := nameserver(conf); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", conf, got, err)
		}
	}
	if _, err := nameserver("search a b\n"); err == nil {
		t.Error("a resolv.conf without servers has one")
	}
}

// answering is a server that answers in this way.
func answering(t *testing.T, answer func(w dns.ResponseWriter, q *dns.Msg)) *client {
	t.Helper()
	ready := make(chan struct{})
	s := &dns.Server{Addr: "127.0.0.1:0", Net: "udp", Handler: dns.HandlerFunc(answer), NotifyStartedFunc: func() { close(ready) }}
	go func() { _ = s.ListenAndServe() }()
	<-ready
	t.Cleanup(func() { _ = s.Shutdown() })
	query, err := new(dns.Msg).SetQuestion("web.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newClient(netip.MustParseAddrPort(s.PacketConn.LocalAddr().String()), query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.close() })
	return c
}

func says(w dns.ResponseWriter, q *dns.Msg, code int) {
	m := new(dns.Msg).SetRcode(q, code)
	if rr, err := dns.NewRR("web. 5 IN A 192.0.2.1"); code == dns.RcodeSuccess && err == nil {
		m.Answer = append(m.Answer, rr)
	}
	_ = w.WriteMsg(m)
}

// Both ways of asking count what was answered and what was not.
func TestClientCounts(t *testing.T) {
	t.Parallel()
	good := func(w dns.ResponseWriter, q *dns.Msg) { says(w, q, dns.RcodeSuccess) }
	if s, err := answering(t, good).flood(100 * time.Millisecond); err != nil || len(s.Times) == 0 || s.Rate <= 0 || s.Lost != 0 {
		t.Errorf("as much as is answered: %d answers, %+v, %v", len(s.Times), s.Rate, err)
	}
	if s, err := answering(t, good).pace(200*time.Millisecond, 500); err != nil || s.Asked != 100 || len(s.Times) != 100 || s.Lost != 0 {
		t.Errorf("at a rate: %d asked, %d answers, %d lost, %v", s.Asked, len(s.Times), s.Lost, err)
	}
	deaf := func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Id%2 == 0 {
			says(w, q, dns.RcodeSuccess)
		}
	}
	if s, err := answering(t, deaf).pace(100*time.Millisecond, 500); err != nil || s.Asked != 50 || s.Lost != 25 {
		t.Errorf("half is answered: %d asked, %d lost, %v", s.Asked, s.Lost, err)
	}
	none := func(w dns.ResponseWriter, q *dns.Msg) { says(w, q, dns.RcodeNameError) }
	if _, err := answering(t, none).flood(100 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "code 3") {
		t.Errorf("a name that is not there: %v", err)
	}
}

func TestSection(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	found := map[string]*Found{
		Floor:    {Rates: []float64{200000}, Times: []time.Duration{ms}, Costs: []time.Duration{ms / 125}},
		Fairlead: {Rates: []float64{90000, 100000, 120000}, Times: []time.Duration{ms / 10, ms / 5}, Tails: []float64{0.1, 0.2, 9}, Costs: []time.Duration{ms / 100}},
		Docker:   {Rates: []float64{20000}, Times: []time.Duration{ms, 30 * ms}, Tails: []float64{30}, Costs: []time.Duration{ms / 40}, Asked: 40, Lost: 10}, Aardvark: {Rates: []float64{16000}, Times: []time.Duration{ms}},
	}
	s := Section(Options{Rounds: 3, Length: time.Second, Rate: 10000}, found)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	r := report.Report{Sections: []report.Section{s}}
	for _, want := range []string{
		"| resolver: queries a second against Docker's | 5 × | ≥ 5 × | met |",
		"at 10,000 queries a second | 0.2 ms | ≤ 1 ms | met |",
		"| resolver: processor time of an answer against a bare echo's | 1.25 × | – |",
		"| Docker | 20,000 | 0.20 | 25.0 | 1.000 | 30.000 | 25 % |",
	} {
		if text := r.Markdown(); !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	found[Docker].Rates = []float64{30000}
	if text := (&report.Report{Sections: []report.Section{Section(Options{}, found)}}).Markdown(); !strings.Contains(text, "costs the kernel 8 µs of the processor, ours 10 and Docker's 25") {
		t.Errorf("the miss is not explained:\n%s", text)
	}
	delete(found, Docker)
	if s := Section(Options{}, found); len(report.Measured(s.Goals)) != 3 {
		t.Errorf("without Docker: %+v", s.Goals)
	}
}
