package iptables

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/containerd/errdefs"
)

// Variant is which of the kernel's packet filters a set of programs is for.
type Variant string

// The variants, as iptables --version calls them.
const (
	// NFTables is iptables-nft: rules in nf_tables, under iptables' matches.
	NFTables Variant = "nf_tables"
	// Legacy is iptables-legacy: the kernel's ip_tables.
	Legacy Variant = "legacy"
)

// Programs are iptables' programs for one family, of the variant that the host uses.
type Programs struct {
	Variant Variant
	// Version is as they tell it.
	Version       string
	restore, save string
}

// waitSeconds bounds how long another program may hold the lock of the legacy tables.
const waitSeconds = "10"

// Find looks for the programs of a family, whose command is iptables or ip6tables.
// They are those that the command itself belongs to, which is what the host's other
// users of iptables have; unless nothing was made by those and something was by the
// other variant's. An error says what to install.
func Find(ctx context.Context, command string) (Programs, error) {
	p, err := programs(ctx, command, "")
	if err != nil {
		// Without the links of an alternatives system, say.
		if p, err = programs(ctx, command, NFTables); err != nil {
			p, err = programs(ctx, command, Legacy)
		}
	}
	if err != nil {
		return p, fmt.Errorf("%s, %s-save and %s-restore are needed and not all there (%w); install them (Debian's package iptables), or choose --firewall-backend=nftables: %w", command, command, command, err, errdefs.ErrFailedPrecondition)
	}
	if p.used(ctx, command) {
		return p, nil
	}
	other := NFTables
	if p.Variant == NFTables {
		other = Legacy
	}
	if q, err := programs(ctx, command, other); err == nil && q.used(ctx, command) {
		return q, nil
	}
	return p, nil
}

// Of finds the programs of one variant; not there is an error that wraps
// exec.ErrNotFound.
func Of(ctx context.Context, command string, v Variant) (Programs, error) {
	return programs(ctx, command, v)
}

// programs finds those of a variant, "" for what the command is.
func programs(ctx context.Context, command string, v Variant) (Programs, error) {
	infix := map[Variant]string{"": "", NFTables: "-nft", Legacy: "-legacy"}[v]
	var p Programs
	var err error
	if _, err = exec.LookPath(command + infix); err != nil {
		return p, err
	}
	if p.restore, err = exec.LookPath(command + infix + "-restore"); err != nil {
		return p, err
	}
	if p.save, err = exec.LookPath(command + infix + "-save"); err != nil {
		return p, err
	}
	out, err := call(ctx, "", command+infix, "--version")
	if err != nil {
		return p, err
	}
	p.Version, p.Variant = strings.TrimSpace(out), Legacy // before 1.8 there was no other
	if strings.Contains(out, string(NFTables)) {
		p.Variant = NFTables
	}
	return p, nil
}

// used says that somebody has rules, or a policy that drops, in tables of the variant.
func (p Programs) used(ctx context.Context, command string) bool {
	if p.Variant == Legacy && !InUse(command) {
		return false // to look would bring them into use
	}
	out, err := p.Save(ctx)
	if err != nil {
		return false
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "-A ") || strings.HasPrefix(line, ":") && strings.Contains(line, " DROP ") {
			return true
		}
	}
	return false
}

// InUse says whether the legacy tables of the command's family are in use in this
// network namespace.
func InUse(command string) bool {
	names, err := os.ReadFile("/proc/thread-self/net/" + strings.Replace(command, "tables", "_tables", 1) + "_names")
	return err == nil && len(bytes.TrimSpace(names)) > 0
}

// Save lists all tables, as iptables-save(8) does.
func (p Programs) Save(ctx context.Context) (string, error) { return call(ctx, "", p.save) }

// Restore makes the changes of the input, which is iptables-restore(8)'s, and leaves
// what it does not speak of. Each table is changed whole or not at all.
func (p Programs) Restore(ctx context.Context, input string) error {
	if input == "" {
		return nil
	}
	_, err := call(ctx, input, p.restore, "--noflush", "--wait", waitSeconds)
	return err
}
