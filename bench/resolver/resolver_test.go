package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/bench/report"
)

// The bare echo is this program, started anew.
func TestMain(m *testing.M) {
	if was, err := Staged(); was {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

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
	return asking(t, netip.MustParseAddrPort(s.PacketConn.LocalAddr().String()))
}

// asking is a client of a server.
func asking(t *testing.T, server netip.AddrPort) *client {
	t.Helper()
	query, err := new(dns.Msg).SetQuestion("web.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newClient(server, query)
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

// The bare echo answers as fast as it is asked, and ends with its context.
func TestEcho(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	at, err := startEcho(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := asking(t, at)
	if s, err := c.pace(100*time.Millisecond, 1000); err != nil || s.Asked != 100 || len(s.Times) != 100 || s.Late > s.Asked {
		t.Errorf("%d asked, %d answers, %d late, %v", s.Asked, len(s.Times), s.Late, err)
	}
	cancel()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := c.ask(0, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := c.hear(); errors.Is(err, unix.ECONNREFUSED) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it answers on")
		}
	}
}

// What is asked late is counted as that, does not make its answer later, and is not asked all
// at once.
func TestLateQuestions(t *testing.T) {
	t.Parallel()
	c := answering(t, func(w dns.ResponseWriter, q *dns.Msg) { says(w, q, dns.RcodeSuccess) })
	began := time.Now()
	if err := c.askAll(20, began.Add(-time.Hour), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 19*time.Millisecond/4 {
		t.Errorf("20 questions were asked in %s", took)
	}
	for len(c.out.Times) < 20 {
		if heard, err := c.hear(); heard == 0 || err != nil {
			t.Fatalf("%d answers, %v", len(c.out.Times), err)
		}
	}
	if s := c.out; s.Asked != 20 || s.Late != 20 || s.Latest < time.Hour-20*time.Millisecond || slices.Max(s.Times) > time.Since(began) {
		t.Errorf("%d asked, %d late, the latest by %s, answers after %s", s.Asked, s.Late, s.Latest, s.Times)
	}
}

func TestSection(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	found := map[string]*Found{
		Floor:    {Rates: []float64{200000}, Times: []time.Duration{ms}, Costs: []time.Duration{ms / 125}},
		Fairlead: {Rates: []float64{90000, 100000, 120000}, Times: []time.Duration{ms / 10, ms / 5}, Tails: []float64{0.1, 0.2, 9}, Costs: []time.Duration{ms / 100}, Asked: 160, Late: 1, Latest: 2 * ms, Stolen: []float64{0, 0.06}},
		Docker:   {Rates: []float64{20000}, Times: []time.Duration{ms, 30 * ms}, Tails: []float64{30}, Costs: []time.Duration{ms / 40}, Asked: 40, Lost: 10, Late: 1, Latest: 3 * ms / 2, Stolen: []float64{0.03}}, Aardvark: {Rates: []float64{16000}, Times: []time.Duration{ms}},
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
		"1 % of all questions were sent more than 1 ms late, the latest by 2 ms,",
		"had 3 % of the processors (steal), 6 % in the worst round.",
	} {
		if text := r.Markdown(); !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	found[Docker].Rates = []float64{30000}
	if text := (&report.Report{Sections: []report.Section{Section(Options{}, found)}}).Markdown(); !strings.Contains(text, "costs the kernel 8 µs of the processor, ours 10 and Docker's 25") {
		t.Errorf("the miss is not explained:\n%s", text)
	}
	for tail, want := range map[float64]string{12: "has 12 ms, Docker's 30 and aardvark-dns 0: somebody else had", 0.1: "has 0.1 ms, Docker's 30 and aardvark-dns 0: what is more is ours"} {
		found[Fairlead].Tails, found[Floor].Tails = []float64{7}, []float64{tail}
		if text := (&report.Report{Sections: []report.Section{Section(Options{}, found)}}).Markdown(); !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	delete(found, Docker)
	if s := Section(Options{}, found); len(report.Measured(s.Goals)) != 3 {
		t.Errorf("without Docker: %+v", s.Goals)
	}
}
