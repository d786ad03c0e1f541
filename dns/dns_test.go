package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	wire "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream is every server there is. It says what each answers, and remembers what
// was asked.
type upstream struct {
	// answer returns what the server sends, message by message; none is silence,
	// and an error a server that is not there.
	answer func(a asked) ([]*wire.Msg, error)

	mu    sync.Mutex
	asked []asked
	open  sync.WaitGroup
}

type asked struct {
	namespace, network string
	server             netip.Addr
	query              *wire.Msg
}

func (u *upstream) Dial(_ context.Context, namespace, network string, server netip.AddrPort) (net.Conn, error) {
	ours, theirs := net.Pipe()
	u.open.Go(func() {
		defer theirs.Close()
		b := make([]byte, 65536)
		n, err := theirs.Read(b)
		if network == "tcp" && err == nil && n == 2 {
			n, err = theirs.Read(b)
		} else if network == "tcp" && err == nil {
			b, n = b[2:], n-2
		}
		if err != nil {
			return
		}
		a := asked{namespace, network, server.Addr(), new(wire.Msg)}
		if err := a.query.Unpack(b[:n]); err != nil {
			return
		}
		u.mu.Lock()
		u.asked = append(u.asked, a)
		u.mu.Unlock()
		messages, err := u.answer(a)
		if err != nil {
			return
		}
		for _, m := range messages {
			out, _ := m.Pack()
			if network == "tcp" {
				out = append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)
			}
			if _, err := theirs.Write(out); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, theirs) // until the client closes
	})
	return ours, nil
}

func (u *upstream) log() []asked {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.asked)
}

var errRefused = errors.New("connection refused")

// says makes an answer of records, as text; of rcode where there are none.
func says(a asked, rcode int, records ...string) *wire.Msg {
	m := new(wire.Msg).SetRcode(a.query, rcode)
	for _, text := range records {
		rr, err := wire.NewRR(text)
		if err != nil {
			panic(err)
		}
		if rr.Header().Rrtype == wire.TypeSOA {
			m.Ns = append(m.Ns, rr)
			continue
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func hosts(s ...string) Upstreams {
	var u Upstreams
	for _, a := range addrs(s...) {
		u.Servers = append(u.Servers, netip.AddrPortFrom(a, 53))
	}
	return u
}

// site is two networks with some sandboxes on them.
func site(u *upstream) *Resolver {
	r := New(u, slog.New(slog.DiscardHandler))
	r.SetUpstreams(hosts("192.0.2.1"))
	front := func(names []string, a ...string) Endpoint {
		return Endpoint{NetworkID: "f", Network: "front", Names: names, Addrs: addrs(a...)}
	}
	back := func(names []string, a ...string) Endpoint {
		return Endpoint{NetworkID: "b", Network: "Back", Names: names, Addrs: addrs(a...)}
	}
	web := front([]string{"Web", "www", "0123456789ab"}, "172.18.0.2", "fd00::2")
	web.Links = []Link{{"store", "db"}, {"www", "db"}, {"gone", "nobody"}}
	r.Set(Sandbox{ID: "web", Outward: true, Endpoints: []Endpoint{web}})
	dbBack := back([]string{"db"}, "172.19.0.3")
	dbBack.Priority = 1
	r.Set(Sandbox{ID: "db", Outward: true, Endpoints: []Endpoint{front([]string{"db", "www"}, "172.18.0.3"), dbBack}})
	r.Set(Sandbox{ID: "six", Endpoints: []Endpoint{back([]string{"six", "my.app", "db.front"}, "fd01::4")}})
	return r
}

// ask makes the whole way of a query.
func ask(t testing.TB, r *Resolver, sandbox string, q *wire.Msg, by Transport) *wire.Msg {
	t.Helper()
	packed, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	answer, ahead := r.Answer(sandbox, packed, by)
	if ahead != nil {
		answer = r.Forward(context.Background(), ahead)
	}
	if answer == nil {
		return nil
	}
	m := new(wire.Msg)
	if err := m.Unpack(answer); err != nil {
		t.Fatalf("an answer that cannot be read: %v", err)
	}
	if m.Id != q.Id || !m.Response || len(m.Question) != len(q.Question) {
		t.Errorf("an answer to something else: %v to %v", m, q)
	}
	return m
}

// said is an answer in short: its code, and what is in its records.
func said(m *wire.Msg) string {
	if m == nil {
		return "silence"
	}
	out := []string{wire.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(out, " ")
}

func question(name string, qtype uint16) *wire.Msg {
	return new(wire.Msg).SetQuestion(wire.Fqdn(name), qtype)
}

func TestLocalNames(t *testing.T) {
	t.Parallel()
	u := &upstream{answer: func(a asked) ([]*wire.Msg, error) {
		return []*wire.Msg{says(a, wire.RcodeNameError)}, nil
	}}
	r := site(u)
	for _, c := range []struct {
		sandbox, name string
		qtype         uint16
		want          string
		forwarded     bool
	}{
		{"db", "web", wire.TypeA, "NOERROR 172.18.0.2", false},
		{"db", "WEB", wire.TypeAAAA, "NOERROR fd00::2", false},
		{"db", "0123456789AB", wire.TypeA, "NOERROR 172.18.0.2", false},
		{"db", "web.front", wire.TypeA, "NOERROR 172.18.0.2", false},
		{"db", "web.Front", wire.TypeA, "NOERROR 172.18.0.2", false},
		{"db", "web.back", wire.TypeA, "NXDOMAIN", true},
		{"db", "web.front.example", wire.TypeA, "NXDOMAIN", true},
		// Of two networks the one of higher priority, unless one is named.
		{"db", "db", wire.TypeA, "NOERROR 172.19.0.3", false},
		{"db", "db.front", wire.TypeA, "NOERROR 172.18.0.3", false},
		// A name that is there in the other family, or as another type.
		{"web", "db", wire.TypeAAAA, "NOERROR", false},
		{"web", "db", wire.TypeMX, "NOERROR", false},
		{"web", "db", wire.TypeHTTPS, "NOERROR", false},
		// Not on a network of its own.
		{"web", "six", wire.TypeAAAA, "NXDOMAIN", true},
		{"web", "db.back", wire.TypeA, "NXDOMAIN", true},
		// Links go before names, of this endpoint alone.
		{"web", "store", wire.TypeA, "NOERROR 172.18.0.3", false},
		{"web", "STORE.front", wire.TypeA, "NOERROR 172.18.0.3", false},
		{"web", "www", wire.TypeA, "NOERROR 172.18.0.3", false},
		{"db", "store", wire.TypeA, "NXDOMAIN", true},
		{"web", "gone", wire.TypeA, "NXDOMAIN", true},
		// A name with dots, whole before in parts; six is on back alone.
		{"six", "my.app", wire.TypeAAAA, "NOERROR fd01::4", false},
		{"six", "my.app.back", wire.TypeAAAA, "NOERROR fd01::4", false},
		{"six", "db.front", wire.TypeAAAA, "NOERROR fd01::4", false},
		{"six", "my", wire.TypeAAAA, "SERVFAIL", false},
		// Backwards.
		{"db", "2.0.18.172.in-addr.arpa", wire.TypePTR, "NOERROR web.front.", false},
		{"web", "3.0.18.172.in-addr.arpa", wire.TypePTR, "NOERROR db.front.", false},
		{"web", "3.0.19.172.in-addr.arpa", wire.TypePTR, "NXDOMAIN", true},
		{"db", "4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa", wire.TypePTR, "NOERROR six.back.", false},
		{"db", "2.0.18.172.in-addr.arpa", wire.TypeTXT, "NOERROR", false},
		{"db", "018.172.in-addr.arpa", wire.TypePTR, "NXDOMAIN", true},
	} {
		before := len(u.log())
		got := said(ask(t, r, c.sandbox, question(c.name, c.qtype), UDP))
		if got != c.want || (len(u.log()) > before) != c.forwarded {
			t.Errorf("%s asks %s %s: %q, forwarded %t; want %q, %t", c.sandbox, c.name, wire.TypeToString[c.qtype],
				got, len(u.log()) > before, c.want, c.forwarded)
		}
	}
	m := ask(t, r, "db", question("WeB", wire.TypeA), UDP)
	if h := m.Answer[0].Header(); h.Ttl > 5 || h.Name != "WeB." {
		t.Errorf("the record is %s", h)
	}
	// What is gone is not answered for, and a name is not kept by who left it.
	r.Set(Sandbox{ID: "db", Endpoints: []Endpoint{{NetworkID: "f", Network: "front", Names: []string{"new"}, Addrs: addrs("172.18.0.3")}}})
	for name, want := range map[string]string{"db": "NXDOMAIN", "new": "NOERROR 172.18.0.3", "store": "NOERROR 172.18.0.3"} {
		if got := said(ask(t, r, "web", question(name, wire.TypeA), UDP)); got != want {
			t.Errorf("after a change %s is %q, want %q", name, got, want)
		}
	}
	r.Remove("db")
	if got := said(ask(t, r, "web", question("new", wire.TypeA), UDP)); got != "NXDOMAIN" {
		t.Errorf("after it went: %q", got)
	}
	if got := ask(t, r, "db", question("web", wire.TypeA), UDP); got != nil {
		t.Errorf("one that is gone was answered: %v", got)
	}
	r.Remove("web")
	r.Remove("six")
	if len(r.names.networks) != 0 || len(r.names.asking) != 0 {
		t.Errorf("left behind: %+v", r.names)
	}
}

func TestSharedNamesAreRotated(t *testing.T) {
	t.Parallel()
	r := New(&upstream{}, nil)
	for i, id := range []string{"a", "b", "c"} {
		r.Set(Sandbox{ID: id, Endpoints: []Endpoint{{NetworkID: "n", Network: "n", Names: []string{id, "all"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}}}})
	}
	first := make(map[string]int)
	for range 30 {
		m := ask(t, r, "a", question("all", wire.TypeA), UDP)
		if len(m.Answer) != 3 {
			t.Fatalf("%d answers, want 3", len(m.Answer))
		}
		first[m.Answer[0].(*wire.A).A.String()]++
	}
	if len(first) != 3 || first["10.0.0.0"] != 10 {
		t.Errorf("first were %v", first)
	}
}

func TestNdots(t *testing.T) {
	t.Parallel()
	u := &upstream{answer: func(a asked) ([]*wire.Msg, error) { return []*wire.Msg{says(a, wire.RcodeSuccess)}, nil }}
	r := site(u)
	n := 1
	r.Set(Sandbox{ID: "x", Outward: true, Ndots: &n, Endpoints: []Endpoint{{NetworkID: "f", Network: "front", Names: []string{"x"}, Addrs: addrs("172.18.0.9")}}})
	for name, want := range map[string]string{"unknown": "NXDOMAIN", "web": "NOERROR 172.18.0.2", "a.b": "NOERROR"} {
		if got := said(ask(t, r, "x", question(name, wire.TypeA), UDP)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := len(u.log()); got != 1 {
		t.Errorf("%d were forwarded, want 1", got)
	}
	n = 0
	if got := said(ask(t, r, "x", question("unknown", wire.TypeA), UDP)); got != "NOERROR" || len(u.log()) != 2 {
		t.Errorf("with ndots:0 it is %q, %d forwarded", got, len(u.log()))
	}
}

func TestQueriesThatAreNone(t *testing.T) {
	t.Parallel()
	r := site(&upstream{answer: func(asked) ([]*wire.Msg, error) { return nil, errRefused }})
	change := func(f func(*wire.Msg)) *wire.Msg {
		m := question("web", wire.TypeA)
		f(m)
		return m
	}
	for name, c := range map[string]struct {
		query *wire.Msg
		want  string
	}{
		"an answer":         {change(func(m *wire.Msg) { m.Response = true }), "silence"},
		"an update":         {change(func(m *wire.Msg) { m.Opcode = wire.OpcodeUpdate }), "NOTIMP"},
		"no question":       {change(func(m *wire.Msg) { m.Question = nil }), "FORMERR"},
		"two questions":     {change(func(m *wire.Msg) { m.Question = append(m.Question, m.Question[0]) }), "FORMERR"},
		"another class":     {change(func(m *wire.Msg) { m.Question[0].Qclass = wire.ClassCHAOS }), "REFUSED"},
		"a whole zone":      {change(func(m *wire.Msg) { m.Question[0].Qtype = wire.TypeAXFR }), "REFUSED"},
		"EDNS to come":      {change(func(m *wire.Msg) { m.SetEdns0(4096, false); m.IsEdns0().SetVersion(1) }), "BADSIG"}, // as BADVERS, which has the same number
		"nobody is there":   {question("x.example", wire.TypeA), "SERVFAIL"},
		"the root":          {question(".", wire.TypeNS), "SERVFAIL"},
		"an unknown type":   {question("web", 65280), "NOERROR"},
		"every type of one": {question("web", wire.TypeANY), "NOERROR 172.18.0.2"},
	} {
		if got := said(ask(t, r, "db", c.query, UDP)); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for _, packet := range [][]byte{nil, make([]byte, 11), {1, 2, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0}} {
		if answer, ahead := r.Answer("db", packet, UDP); answer != nil || ahead != nil {
			t.Errorf("%x was answered with %x", packet, answer)
		}
	}
	answer, _ := r.Answer("db", []byte{7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63}, UDP)
	if want := []byte{7, 8, 0x81, 0x81}; len(answer) < 4 || !slices.Equal(answer[:4], want) {
		t.Errorf("a query cut short was answered with %x, want %x first", answer, want)
	}
}

// Answers fit what the client takes, and say so when they are cut.
func TestAnswersFit(t *testing.T) {
	t.Parallel()
	r := New(&upstream{}, nil)
	for i := range 200 {
		r.Set(Sandbox{ID: string(rune('A' + i)), Endpoints: []Endpoint{{NetworkID: "n", Network: "n", Names: []string{"all"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})}}}})
	}
	edns := func(size uint16) *wire.Msg {
		m := question("all", wire.TypeA)
		m.SetEdns0(size, true)
		return m
	}
	for i := range 1000 {
		r.Set(Sandbox{ID: "m" + strconv.Itoa(i), Endpoints: []Endpoint{{NetworkID: "m", Network: "m", Names: []string{"many"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}}}})
	}
	r.Set(Sandbox{ID: "A", Endpoints: []Endpoint{
		{NetworkID: "n", Network: "n", Names: []string{"all"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, 0})}},
		{NetworkID: "m", Network: "m"},
	}})
	manyEDNS := edns(4096)
	manyEDNS.Question[0].Name = "many."
	for name, c := range map[string]struct {
		query *wire.Msg
		by    Transport
		most  int
		cut   bool
	}{
		"plain":      {question("all", wire.TypeA), UDP, 512, true},
		"EDNS":       {edns(1232), UDP, 1232, true},
		"small EDNS": {edns(100), UDP, 512, true},
		"large EDNS": {edns(65535), UDP, 4096, false},
		"TCP":        {question("all", wire.TypeA), TCP, 65535, false},
		"very many":  {manyEDNS, UDP, 4096, true},
	} {
		packed, _ := c.query.Pack()
		answer, _ := r.Answer("A", packed, c.by)
		m := new(wire.Msg)
		if err := m.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		if len(answer) > c.most || m.Truncated != c.cut || (!c.cut && len(m.Answer) != 200) {
			t.Errorf("%s: %d bytes, %d records, cut %t; want at most %d, %t", name, len(answer), len(m.Answer), m.Truncated, c.most, c.cut)
		}
		if opt, asked := m.IsEdns0(), c.query.IsEdns0(); (opt != nil) != (asked != nil) || (opt != nil && !opt.Do()) {
			t.Errorf("%s: EDNS was answered with %v", name, opt)
		}
	}
}
