package lab

import (
	"fmt"
	"testing"
	"time"
)

// reachTimeout is how long an answer may be in coming: links settle, servers start.
var reachTimeout = 10 * time.Second

const (
	// tryTimeout is for a single try.
	tryTimeout = 2 * time.Second
	// silence is how long no answer counts as none.
	silence = time.Second
)

// Probe is a way to try: from a host to an address. Proto is "tcp" for a
// connection, "udp" for a datagram to a Server and back, "icmp" for an echo (Addr
// has no port).
type Probe struct {
	From        *Host
	Proto, Addr string
}

func (p Probe) String() string { return fmt.Sprintf("%s → %s/%s", p.From.name, p.Addr, p.Proto) }

// try tries once.
func (p Probe) try(timeout time.Duration) error {
	switch p.Proto {
	case "icmp":
		r := p.From.Try("ping", "-n", "-c1", fmt.Sprintf("-W%.1f", timeout.Seconds()), p.Addr)
		if r.Code != 0 {
			return fmt.Errorf("ping: exit status %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	case "udp":
		_, err := p.From.Ask(p.Proto, p.Addr, timeout)
		return err
	case "tcp":
		c, err := p.From.Dial(p.Proto, p.Addr, timeout)
		if err != nil {
			return err
		}
		return c.Close()
	}
	return fmt.Errorf("protocol %q: want tcp, udp or icmp", p.Proto)
}

// Try tries once, for two seconds at most.
func (p Probe) Try() error { return p.try(tryTimeout) }

// reach tries until it succeeds.
func (p Probe) reach() error {
	deadline := time.Now().Add(reachTimeout)
	for {
		err := p.try(tryTimeout)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Reachable fails the test unless the address answers within ten seconds.
func Reachable(t testing.TB, from *Host, proto, addr string) {
	t.Helper()
	if err := (Probe{from, proto, addr}).reach(); err != nil {
		t.Errorf("%s: not reachable: %v", Probe{from, proto, addr}, err)
	}
}

// Unreachable fails the test if the address answers. The control shows that it
// would, were the way not barred: it must succeed before and after, so it should
// differ from the probe in nothing but what bars the way (the same server from
// where it may be reached, say).
func Unreachable(t testing.TB, from *Host, proto, addr string, control Probe) {
	t.Helper()
	p := Probe{from, proto, addr}
	if err := control.reach(); err != nil {
		t.Errorf("%s: cannot tell: the control %s fails: %v", p, control, err)
		return
	}
	if p.try(silence) == nil {
		t.Errorf("%s: reachable, and should not be", p)
	}
	if err := control.reach(); err != nil {
		t.Errorf("%s: cannot tell: the control %s fails afterwards: %v", p, control, err)
	}
}

// Seen fails the test unless the Server at the address answers within ten seconds,
// and returns what it said: which host it is and whom it saw.
func Seen(t testing.TB, from *Host, proto, addr string) Reply {
	t.Helper()
	deadline := time.Now().Add(reachTimeout)
	for {
		r, err := from.Ask(proto, addr, tryTimeout)
		if err == nil {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: no answer: %v", Probe{from, proto, addr}, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
