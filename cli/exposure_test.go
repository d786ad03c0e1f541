package cli

import (
	"strings"
	"testing"
)

// TestExposureOfNothing: where nothing is published, that is said.
func TestExposureOfNothing(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := (exposed{Ports: []exposedPort{}}).print(&out, false); err != nil {
		t.Fatal(err)
	}
	if want := "nothing is published, and no program in a container listens\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	out.Reset()
	if err := (exposed{Ports: []exposedPort{{Kind: "published", Container: "web"}}}).print(&out, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "nothing") {
		t.Errorf("printed %q of a port", out.String())
	}
}
