package engine

import (
	"log/slog"
	"strings"
	"testing"
)

// TestCutOffIsSaid: of a container that runs on and whose network was lost with all records
// of it, the next daemon's log has a line that names it; of others it has none.
func TestCutOffIsSaid(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cutOff := f.create(func(r *CreateRequest) { r.Name = "cut-off" }, "sleep", "3600")
	well := f.create(func(r *CreateRequest) { r.Name = "well" }, "sleep", "3600")
	for _, id := range []string{cutOff, well} {
		f.ok(f.Start(t.Context(), id))
	}
	var said strings.Builder
	f.cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	f.crash()
	for _, lost := range []string{"", cutOff} {
		if lost != "" {
			if err := f.network.Detach(t.Context(), lost); err != nil {
				t.Error(err)
			}
		}
		said.Reset()
		f.begin()
		f.crash() // nobody logs any more
		if got := strings.Count(said.String(), "runs without its network"); got != len(lost)/64 || got == 1 && !strings.Contains(said.String(), "container=cut-off ") {
			t.Errorf("lost %q: the log says %d times:\n%s", lost, got, said.String())
		}
	}
	f.begin()
}
