package daemon

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/streams"
)

// TestStoppedStreams: a streams process that answers nothing is not waited for without
// end, and not long once that is known; what it was told meanwhile it does when it goes on.
func TestStoppedStreams(t *testing.T) {
	t.Parallel()
	goesOn, told := make(chan struct{}), make(chan string, 10)
	dir := helper(t, streams.Name, func(_ context.Context, r *fdpass.Request) (fdpass.Response, error) {
		<-goesOn
		told <- r.Method
		return fdpass.Response{}, nil
	})
	c, err := streams.Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	k := &keptStreams{answers: 20 * time.Millisecond, again: time.Millisecond, kept: kept[*streams.Client]{name: streams.Name, current: c}}
	refused := func(err error) {
		t.Helper()
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "has not answered in ") || !strings.Contains(err.Error(), "kill -9 4711") {
			t.Errorf("%v, want a call that is given up", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	refused(k.Close(ctx, "c")) // it is waited for, and then told that nobody does any more
	began := time.Now()
	refused(k.Drop(ctx, "c"))
	refused(k.Drained(ctx, "c"))
	refused(k.Attach(ctx, streams.AttachSpec{ID: "c"}, os.Stdin))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a process that is known not to answer is waited for: %s", took)
	}
	gone, leave := context.WithCancel(ctx)
	leave()
	if err := k.Drop(gone, "c"); err == nil || errdefs.IsUnavailable(err) {
		t.Errorf("of a caller who is gone: %v", err)
	}
	close(goesOn)
	k.again = 10 * time.Second
	if _, err := k.List(ctx); err != nil {
		t.Error(err)
	}
	for k.silent.Load() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if done := []string{<-told, <-told, <-told, <-told, <-told, <-told}; !slices.Contains(done, "close") || !slices.Contains(done, "drop") {
		t.Errorf("when it goes on it does %q", done)
	}
	select {
	case <-c.Done():
		t.Error("the connection has ended")
	default:
	}
}
