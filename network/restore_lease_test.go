package network

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedLeases: whatever became of them while no daemon ran, the sandboxes are the
// same as before, by the very links, and with their ports.
func TestDamagedLeases(t *testing.T) {
	h := newHost(t)
	a, b := h.attach(t, 1, "bridge", tcp(8080, 80)), h.attach(t, 2, "bridge")
	number := func() string {
		index, _, _ := strings.Cut(command(t, "ip", "-o", "link", "show", a.Endpoints[0].HostIf), ":")
		return index
	}
	index := number()
	for name, how := range map[string]func(path string) error{
		"all":     func(path string) error { return os.RemoveAll(filepath.Dir(filepath.Dir(path))) }, // the relay's copy is left
		"torn":    func(path string) error { return os.Truncate(path, 20) },
		"nothing": func(path string) error { return os.WriteFile(path, []byte("{}"), 0o600) },
		"missing": os.Remove,
	} {
		if err := errors.Join(h.Close(), h.store.Close()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{a.Sandbox.ID, b.Sandbox.ID} {
			if err := how(filepath.Join(h.dir, "exec", "state", "leases", id)); err != nil {
				t.Fatal(err)
			}
		}
		h.start(t)
		if got := number(); got != index {
			t.Errorf("%s: the link is another: %s, was %s", name, got, index)
		}
		if !ping(a, b.Endpoints[0].Addr4.Addr().String()) {
			t.Errorf("%s: they do not reach each other", name)
		}
		if got, there := h.Attachment(a.Sandbox.ID); !there || len(got.Ports) != 2 || got.Ports[0].Host.Port() != 8080 {
			t.Errorf("%s: attachment %+v", name, got)
		}
		h.clean(t)
	}
}

// TestDamagedIntents: of what had begun when the daemon died nothing is left, though
// nobody can tell what it was; everybody else stays.
func TestDamagedIntents(t *testing.T) {
	h := newHost(t)
	a, gone := h.attach(t, 1, "bridge", tcp(8080, 80)), h.attach(t, 2, "bridge")
	ends := []string{"detach@" + gone.Sandbox.ID, "attach@" + strings.Repeat("7", 64), "connect@" + a.Sandbox.ID, "network-create@" + strings.Repeat("8", 64)}
	err := errors.Join(h.journal.Reopen("detach", gone.Sandbox.ID), h.Close(), h.store.Close())
	for i, name := range ends {
		text := []string{`{"attachm`, "", "{}", `{"network":{}}`}[i]
		err = errors.Join(err, os.WriteFile(filepath.Join(h.dir, "exec", "state", "journal", name), []byte(text), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	h.start(t)
	h.departing.settle(t.Context())
	if links := command(t, "ip", "-br", "link"); strings.Contains(links, gone.Endpoints[0].HostIf) || !strings.Contains(links, a.Endpoints[0].HostIf) {
		t.Errorf("the links are\n%s", links)
	}
	if !ping(a, "172.17.0.1") {
		t.Error("the other one is cut off")
	}
	if n := len(h.Attachments()); n != 1 {
		t.Errorf("%d are attached", n)
	}
	for _, name := range ends {
		if _, err := os.Stat(filepath.Join(h.dir, "exec", "state", "damaged", name)); err != nil {
			t.Error(err)
		}
	}
	again := h.attach(t, 2, "bridge")
	if !ping(again, a.Endpoints[0].Addr4.Addr().String()) {
		t.Error("one that is attached afterwards is cut off")
	}
	h.clean(t)
}
