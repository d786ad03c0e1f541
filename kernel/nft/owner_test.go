package nft_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/ruleset"
)

func ownedTable() ruleset.Table {
	p := policy()
	p.Owner = true
	return firewall.Table(p)
}

func port(n uint16) ruleset.Element {
	return ruleset.Element{
		Key:  []ruleset.Value{ruleset.TCP, ruleset.Port(n)},
		Data: []ruleset.Value{ruleset.Addr(netip.MustParseAddr("172.17.0.9")), ruleset.Port(80)},
	}
}

func add(elements ...ruleset.Element) ruleset.Change {
	return ruleset.AddElements{Family: ruleset.Inet, Table: "fairlead", Set: "publish4any", Elements: elements}
}

func del(ignoreMissing bool, elements ...ruleset.Element) ruleset.Change {
	return ruleset.DeleteElements{Family: ruleset.Inet, Table: "fairlead", Set: "publish4any", Elements: elements, IgnoreMissing: ignoreMissing}
}

// An owned table is changed by its owner alone, wherever the owner's socket is,
// and survives a flush by another program.
func TestOwnedTable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if !h.conn.Features().Persist {
		t.Fatal("this test is about kernels from Linux 6.9 on")
	}
	h.apply(t, ruleset.ReplaceTable{Table: ownedTable()})
	h.nftScript(t, "add table inet foreign")
	h.nftScript(t, "flush ruleset")
	tables := h.run(t, "nft", "list", "tables")
	if !strings.Contains(tables, "fairlead") || strings.Contains(tables, "foreign") {
		t.Errorf("after a flush the tables are %q; want ours alone", tables)
	}
	if out, err := h.try(t.Context(), "nft", "delete", "table", "inet", "fairlead"); err == nil {
		t.Errorf("another program deleted the table: %s", out)
	}

	// The socket changes hands.
	fd, err := unix.Dup(int(h.sock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	next, err := nft.Open(os.NewFile(uintptr(fd), "nfnetlink"))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := h.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := next.Apply(t.Context(), []ruleset.Change{add(port(9))}); err != nil {
		t.Errorf("the next holder of the socket: %v", err)
	}
}

// A table whose owner is gone is there still, and the next owner takes it.
func TestOrphanIsAdopted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(t, ruleset.ReplaceTable{Table: ownedTable()})
	if err := h.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if out := h.run(t, "nft", "list", "tables"); !strings.Contains(out, "fairlead") {
		t.Fatalf("the table went with its owner: %q", out)
	}
	h.open(t)
	h.apply(t, ruleset.ReplaceTable{Table: ownedTable()}, add(port(9)))
	if out, err := h.try(t.Context(), "nft", "delete", "table", "inet", "fairlead"); err == nil {
		t.Errorf("another program deleted the adopted table: %s", out)
	}
	h.apply(t, ruleset.DeleteTable{Family: ruleset.Inet, Name: "fairlead"})
	if out := h.run(t, "nft", "list", "tables"); out != "" {
		t.Errorf("left after the delete: %q", out)
	}
}

func TestTableOfAnotherOwner(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(t, ruleset.ReplaceTable{Table: ownedTable()})
	other := &host{ns: h.ns}
	other.open(t)
	err := other.conn.Apply(t.Context(), []ruleset.Change{ruleset.ReplaceTable{Table: ownedTable()}})
	if !errors.Is(err, errdefs.ErrPermissionDenied) || !strings.Contains(fmt.Sprint(err), "table fairlead") {
		t.Errorf("err = %v; want permission denied, naming the table", err)
	}
}

// A transaction is made whole or not at all, and its error names the change.
func TestApplyAllOrNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(t, ruleset.ReplaceTable{Table: ownedTable()})
	before := h.list(t, inet)
	other := port(8080) // there already, with another value
	tests := map[string]struct {
		bad  ruleset.Change
		kind error
		say  string
	}{
		"delete what is missing": {del(false, port(7)), errdefs.ErrNotFound, "delete element inet fairlead publish4any { tcp . 7 }"},
		"other value":            {add(other), errdefs.ErrAlreadyExists, "add element inet fairlead publish4any { tcp . 8080 : 172.17.0.9 . 80 }"},
		"no such set": {
			ruleset.AddElements{Family: ruleset.Inet, Table: "fairlead", Set: "nowhere", Elements: []ruleset.Element{port(1)}},
			errdefs.ErrNotFound, "nowhere",
		},
		"no such table": {ruleset.DeleteTable{Family: ruleset.Inet, Name: "absent"}, errdefs.ErrNotFound, "delete table inet absent"},
	}
	for name, tt := range tests {
		err := h.conn.Apply(t.Context(), []ruleset.Change{add(port(5)), tt.bad, add(port(6))})
		var e *nft.Error
		if !errors.As(err, &e) || !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%s: err = %v; want %v, saying %q", name, err, tt.kind, tt.say)
		}
		if got := h.list(t, inet); got != before {
			t.Errorf("%s: the table changed:\n%s", name, got)
		}
	}
}

func TestApplyTwiceIsTheSame(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	p := policy()
	p.Owner = true
	h.apply(t, firewall.Replace(p)...)
	before := h.listAll(t, p)
	for range 2 {
		for _, n := range p.Networks {
			h.apply(t, backend.AddNetwork(n).Rules...)
		}
		for _, m := range p.Members {
			h.apply(t, backend.AddMember(m).Rules...)
		}
	}
	// In one transaction, as when a network is connected.
	for _, m := range p.Members {
		h.apply(t, backend.RemoveMember(m).Then(backend.AddMember(m)).Rules...)
	}
	if got := h.listAll(t, p); got != before {
		t.Errorf("adding again changed the tables:\n%s", got)
	}
	for range 2 {
		for _, n := range p.Networks {
			h.apply(t, backend.RemoveNetwork(n).Rules...)
		}
		for _, m := range p.Members {
			h.apply(t, backend.RemoveMember(m).Rules...)
		}
	}
	if got := h.listAll(t, p); strings.Count(got, "elements") != 2 { // those of the guard
		t.Errorf("elements are left:\n%s", got)
	}
	// Where the tables themselves are gone there is nothing to take out either.
	for range 2 {
		h.apply(t, firewall.Delete(p.Table)...)
	}
	h.apply(t, append(backend.RemoveMember(p.Members[0]).Rules, firewall.Delete(p.Table)...)...)
	if out := h.run(t, "nft", "list", "tables"); out != "" {
		t.Errorf("left after the delete: %q", out)
	}
}

func (h *host) listAll(t *testing.T, p firewall.Policy) string {
	t.Helper()
	var text strings.Builder
	for _, table := range firewall.Tables(p) {
		text.WriteString(h.list(t, table))
	}
	return text.String()
}

func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if err := h.conn.Check(t.Context(), []ruleset.Change{ruleset.ReplaceTable{Table: ownedTable()}}); err != nil {
		t.Fatal(err)
	}
	if out := h.run(t, "nft", "list", "ruleset"); out != "" {
		t.Errorf("a check left %q", out)
	}
	if err := h.conn.Check(t.Context(), []ruleset.Change{add(port(1))}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("err = %v; want not found: there is no table", err)
	}
}

// 65,000 elements and 5,000 rules fit in one transaction, and as many errors
// do not lose the first.
func TestManyInOneTransaction(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	table := ruleset.Table{Family: ruleset.Inet, Name: "fairlead", Sets: firewall.Table(firewall.Policy{}).Sets}
	var all []ruleset.Element
	for n := uint16(1); n <= 65000; n++ {
		all = append(all, port(n))
	}
	rules := make([]ruleset.Rule, 5000)
	for i := range rules {
		rules[i] = ruleset.NewRule("many", ruleset.Group{Selector: ruleset.IIfGroup, Group: uint32(i)}, ruleset.Counter{}, ruleset.Drop)
	}
	table.Chains = []ruleset.Chain{{Name: "many", Rules: rules}}
	h.apply(t, ruleset.ReplaceTable{Table: table}, add(all...))
	if err := h.conn.Apply(t.Context(), []ruleset.Change{del(false, all...)}); err != nil {
		t.Fatal(err)
	}
	var missing []ruleset.Change
	for _, e := range all {
		missing = append(missing, del(false, e))
	}
	err := h.conn.Apply(t.Context(), missing)
	if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "tcp . 1 }") {
		t.Errorf("err = %v; want not found, naming the first", err)
	}
	h.apply(t, add(port(1)))
}
