package daemon

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/relay"
)

// TestStoppedRelay: a relay that answers nothing, as one that somebody has stopped, is not
// waited for without end. What it was told to do fails with the way out, and its
// connection ends, so that another is given everything; what it was asked only fails.
func TestStoppedRelay(t *testing.T) {
	t.Parallel()
	dir := helper(t, relay.Name, func(ctx context.Context, _ *fdpass.Request) (fdpass.Response, error) {
		<-ctx.Done()
		return fdpass.Response{}, ctx.Err()
	})
	c, err := relay.Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	k := &keptRelay{looks: 10 * time.Millisecond, changes: 10 * time.Millisecond, kept: kept[*relay.Client]{current: c}}
	refused := func(what string, err error) {
		t.Helper()
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "kill -9 4711") {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = k.List(ctx)
	refused("list", err)
	gone, leave := context.WithCancel(ctx)
	leave()
	if err := k.KeepFirewallSocket(gone, os.Stdin); !errors.Is(err, context.Canceled) || errdefs.IsUnavailable(err) {
		t.Errorf("of a caller who is gone: %v", err)
	}
	select {
	case <-c.Done():
		t.Error("the connection ended with a question")
	default:
	}
	host := netip.MustParseAddrPort("127.0.0.1:80")
	refused("hold", k.Hold(ctx, []relay.Binding{{Owner: "a", Proto: "tcp", Host: host, Backend: host, File: os.Stdin}}))
	select {
	case <-c.Done():
	case <-ctx.Done():
		t.Error("the connection lives on")
	}
}
