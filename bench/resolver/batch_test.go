package resolver

import (
	"bytes"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// control is a control message as the kernel writes it (cmsg(3)).
func control(level, kind int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := unix.Cmsghdr{Level: level, Type: kind}
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b, unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h)))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func TestStampOf(t *testing.T) {
	t.Parallel()
	at := unix.NsecToTimespec(1_700_000_000_123_456_789)
	data := slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&at)), unsafe.Sizeof(at)))
	stamp := control(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, data)
	lifetime := control(unix.IPPROTO_IP, unix.IP_TTL, []byte{64, 0, 0, 0})
	for _, c := range []struct {
		name     string
		controls []byte
		stamped  bool
	}{
		{"a stamp", stamp, true},
		{"a stamp behind another message", slices.Concat(lifetime, stamp), true},
		{"a stamp before another message", slices.Concat(stamp, lifetime), true},
		{"none", nil, false},
		{"another message", lifetime, false},
		{"a message of the same number, of another level", control(unix.IPPROTO_IP, unix.SCM_TIMESTAMPNS, data), false},
		{"a time in microseconds", control(unix.SOL_SOCKET, unix.SO_TIMESTAMP, data), false},
		{"a short stamp", control(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, data[:8]), false},
		{"a stamp that was cut", stamp[:len(stamp)-4], false},
		{"half a header", stamp[:6], false},
		{"no length", bytes.Repeat([]byte{0}, 32), false},
	} {
		got, ok := stampOf(c.controls)
		if ok != c.stamped || ok && got != at.Nano() {
			t.Errorf("%s: %d, %t", c.name, got, ok)
		}
	}
}

// An answer has the time at which it came, however late it is read: also behind one that the
// kernel had no time for.
func TestLateReader(t *testing.T) {
	t.Parallel()
	answered := make(chan int64, 1)
	c := answering(t, func(w dns.ResponseWriter, q *dns.Msg) {
		says(w, q, dns.RcodeSuccess)
		answered <- time.Now().UnixNano()
	})
	// ask is how long an answer took, and how long it was until it had been sent.
	ask := func() (took, limit time.Duration) {
		n := len(c.out.Times)
		if err := c.ask(n, 1); err != nil {
			t.Fatal(err)
		}
		limit = time.Duration(<-answered - c.sentAt[n])
		if heard, err := c.hear(); heard != 1 || err != nil {
			t.Fatalf("%d answers, %v", heard, err)
		}
		return c.out.Times[n], limit
	}
	if took, limit := ask(); took <= limit {
		t.Errorf("without stamps: %s of %s", took, limit)
	}
	if err := c.batch.stamp(c.fd); err != nil {
		t.Fatal(err)
	}
	// The first socket that wants stamps has none until the kernel has patched its code for
	// them (net_enable_timestamp).
	took, limit := ask()
	for deadline := time.Now().Add(5 * time.Second); took > limit && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		took, limit = ask()
	}
	if took <= 0 || took > limit {
		t.Errorf("the last of %d answers took %s, and had been sent after %s", len(c.out.Times), took, limit)
	}
}
