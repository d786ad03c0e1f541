package conntrack_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/conntrack"
)

// TestLoosen: segments go by conntrack, as they do on a faster way than its own; of
// those that come to it again it takes only a loosened connection's.
func TestLoosen(t *testing.T) {
	t.Parallel()
	const size = 8 << 20 // more than any window that conntrack has seen
	for name, f := range families {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTranslator(t)
			tr.host.Sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", "0")
			e := tr.connect(tr.out, tr.in, net.JoinHostPort(f.in, "80"), net.JoinHostPort(f.host, "8080"))
			e.exchange(1)
			tr.nft("add rule inet n around iifname up0 tcp dport 8080 notrack "+f.nft+" daddr set "+f.in+" tcp dport set 80",
				"add rule inet n around iifname in0 tcp sport 80 notrack",
				"add rule inet n back oifname up0 ct state untracked tcp sport 80 "+f.nft+" saddr set "+f.host+" tcp sport set 8080")
			e.exchange(size)
			if bad := tr.bad(); bad != 0 {
				t.Fatalf("%d segments went by conntrack and are invalid", bad)
			}
			tr.nft("flush chain inet n around", "flush chain inet n back")
			tr.refused(e)
			if err := tr.loosen(map[string]conntrack.Tuple{"IPv4": e.original(), "IPv6": e.reply()}[name]); err != nil {
				t.Fatal(err)
			}
			before := tr.bad()
			e.exchange(2) // and what was refused
			e.exchange(size)
			if bad := tr.bad(); bad != before {
				t.Errorf("of a loosened connection %d segments are invalid", bad-before)
			}
			if got, err := tr.connection(e.original()); err != nil || !got.Established {
				t.Errorf("loosened: %v, %v", got, err)
			}
			tr.gone(e)
		})
	}
}

// bad is how many segments conntrack took for invalid.
func (tr *translator) bad() (packets int) {
	tr.t.Helper()
	text := tr.nft("list counter inet n bad")
	_, after, _ := strings.Cut(text, "packets ")
	if _, err := fmt.Sscan(after, &packets); err != nil {
		tr.t.Fatalf("%s: %v", text, err)
	}
	return packets
}

// refused has each side say a byte, of which the other does not hear: the rule for what
// is invalid has it.
func (tr *translator) refused(e ends) {
	tr.t.Helper()
	for _, c := range []struct{ from, to *net.TCPConn }{{e.client, e.server}, {e.server, e.client}} {
		before := tr.bad()
		if _, err := c.from.Write([]byte("x")); err != nil {
			tr.t.Fatal(err)
		}
		if err := c.to.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			tr.t.Fatal(err)
		}
		if n, err := c.to.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			tr.t.Errorf("%v to %v: %d, %v: it should not get there", c.from.LocalAddr(), c.to.LocalAddr(), n, err)
		}
		if tr.bad() == before {
			tr.t.Errorf("%v to %v: conntrack has taken it", c.from.LocalAddr(), c.to.LocalAddr())
		}
	}
}

// gone forgets the connection: there is nothing to loosen any more, nor is it made.
func (tr *translator) gone(e ends) {
	tr.t.Helper()
	tuple := e.original()
	if err := tr.do(func() error { return tr.DeleteByAddr(tuple.From.Addr()) }); err != nil {
		tr.t.Fatal(err)
	}
	if err := tr.loosen(tuple); !errdefs.IsNotFound(err) {
		tr.t.Errorf("loosen what is gone: %v, want ErrNotFound", err)
	}
	if got, err := tr.connection(tuple); !errdefs.IsNotFound(err) {
		tr.t.Errorf("it was made: %v, %v", got, err)
	}
}
