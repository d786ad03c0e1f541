package link

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
)

// TestWhole: a list that is torn is read again, a bounded number of times.
func TestWhole(t *testing.T) {
	t.Parallel()
	oops := errors.New("oops")
	for name, c := range map[string]struct {
		torn  int // so many reads are torn
		fail  error
		reads int
		want  func(error) bool
	}{
		"at once":       {0, nil, 1, func(err error) bool { return err == nil }},
		"the third":     {2, nil, 3, func(err error) bool { return err == nil }},
		"never":         {1000, nil, dumpAttempts, errdefs.IsUnavailable},
		"another error": {0, oops, 1, func(err error) bool { return errors.Is(err, oops) }},
	} {
		reads := 0
		all, err := whole(func() ([]packet, bool, error) {
			reads++
			return make([]packet, reads), reads <= c.torn, c.fail
		})
		if reads != c.reads || !c.want(err) || err == nil && len(all) != reads {
			t.Errorf("%s: %d reads, %d packets, %v", name, reads, len(all), err)
		}
	}
}

// TestTorn: the kernel's mark on a list that changed while it was read is seen.
func TestTorn(t *testing.T) {
	t.Parallel()
	base, err := os.MkdirTemp("", "fl-link-")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "netns")
	t.Cleanup(func() {
		if err := errors.Join(netns.RemoveDir(dir), os.Remove(base)); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "a")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	churn, err := Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer churn.Close()
	for i := range 150 {
		if err := h.CreateVeth(Veth{Name: fmt.Sprintf("s%d", i), PeerName: fmt.Sprintf("t%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		// Links are only added: that is quick, and to delete one is not.
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-done:
				ended <- nil
				return
			default:
				err = churn.CreateVeth(Veth{Name: fmt.Sprintf("a%d", i), PeerName: fmt.Sprintf("b%d", i)})
			}
		}
		ended <- err
	}()
	deadline := time.Now().Add(20 * time.Second)
	for torn := false; !torn && err == nil; {
		if time.Now().After(deadline) {
			t.Fatal("no list was torn in 20 s")
		}
		req := &request{typ: unix.RTM_GETLINK}
		_, torn, err = h.c.dumpOnce(req.ifinfo(0, 0, 0).uint32(unix.IFLA_EXT_MASK, skipStats))
	}
	close(done)
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	if links, err := h.Links(); err != nil || len(links) < 301 {
		t.Errorf("%d links, %v", len(links), err)
	}
}
