// Package nft makes changes of package ruleset in the kernel's nf_tables, and
// reads back the little that must be known of other programs' tables.
//
// Every call of Apply is one netlink batch and so one transaction: the kernel
// makes all of the changes or none, and no packet meets half of them. Nothing is
// listed to decide what to do, and no program is started.
//
// Why not an existing library: the flags of a table (owner, persist), a socket
// that is handed from process to process, and an error that says which change
// failed are all needed, and all three are about the netlink messages themselves.
//
// What must not live here: which rules are wanted and what for (network/firewall).
package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/ruleset"
)

// Conn changes the rulesets of one network namespace. Its methods may be called
// at the same time.
type Conn struct {
	mu       sync.Mutex
	file     *os.File
	sock     socket
	seq      uint32
	features Features
	watcher  *Watcher // see LookAway
}

// Features says what the kernel's nf_tables can do.
type Features struct {
	// Owner: a table can be kept from every program but its owner (Linux 5.12).
	Owner bool
	// Persist: such a table stays when its owner's socket closes (Linux 6.9).
	Persist bool
	// Destroy: deleting what is not there is no error (Linux 6.3).
	Destroy bool
	// Bridge: tables of the family bridge can be had. Without them Apply passes over
	// a ReplaceTable of that family, and refuses elements.
	Bridge bool
	// Flows: connections can be counted by address (Linux 4.18; CONFIG_NFT_CONNLIMIT,
	// CONFIG_NFT_NUMGEN).
	Flows bool
}

// LacksEnv names features in the environment, persist and destroy, that are taken to be
// missing: how a test has an older kernel. It must not be used for anything else.
const LacksEnv = "FAIRLEAD_NFT_LACKS"

// lack forgets features by their names, with commas between them.
func (f *Features) lack(names string) {
	for name := range strings.SplitSeq(names, ",") {
		switch name {
		case "persist":
			f.Persist = false
		case "destroy":
			f.Destroy = false
		}
	}
}

// Open takes over a socket of NewSocket, whoever held it before: answers still
// in it are thrown away. It asks the kernel what it can do, which changes nothing.
func Open(f *os.File) (*Conn, error) {
	c, err := take(f)
	if err != nil {
		return nil, err
	}
	if err := c.probe(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close closes our copy of the socket.
func (c *Conn) Close() error { return c.file.Close() }

// Features is what Open found.
func (c *Conn) Features() Features { return c.features }

// Apply makes the changes in one transaction: all, or none and an error. The
// error names the change that failed and wraps an *Error.
func (c *Conn) Apply(ctx context.Context, changes []ruleset.Change) error {
	return c.run(ctx, changes, true)
}

// Check lets the kernel check the changes as Apply would make them, and makes
// none. A feature that the kernel lacks comes out here, too.
func (c *Conn) Check(ctx context.Context, changes []ruleset.Change) error {
	return c.run(ctx, changes, false)
}

func (c *Conn) run(ctx context.Context, changes []ruleset.Change, commit bool) error {
	if len(changes) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	refill, err := c.refilled(changes)
	if err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	skip, lost := make(map[int]bool), 0
	for {
		b := c.newBatch(skip)
		b.refill = refill
		for i, ch := range changes {
			b.change = i
			if err := c.encode(b, ch); err != nil {
				return &Error{Change: ch, err: err}
			}
		}
		if len(b.parts) == 0 {
			return nil
		}
		exchange := c.exchange
		if commit && lost == 0 && len(skip) == 0 && !c.watched(changes) {
			exchange = c.unwatched
		}
		failures, err := exchange(b, commit)
		if err != nil && lost < repeats && repeatable(changes) {
			lost++
			continue
		}
		if err != nil {
			return fmt.Errorf("nft: %w", err)
		}
		if len(failures) == 0 {
			return nil
		}
		if len(refill) > 0 {
			// Whatever is in the way there, the whole can be put in its place.
			refill, skip = nil, make(map[int]bool)
			continue
		}
		// What was to be deleted and is not there leaves the batch, once.
		forgiven := 0
		for _, f := range failures {
			if f.part < 0 || !b.parts[f.part].forgive || !errors.Is(f.errno, unix.ENOENT) {
				return failure(changes, b, failures)
			}
			if !skip[b.parts[f.part].ordinal] {
				skip[b.parts[f.part].ordinal] = true
				forgiven++
			}
		}
		if forgiven == 0 {
			return failure(changes, b, failures)
		}
	}
}

// repeats bounds how often a batch is sent again when the answer to it is lost, for
// lack of memory (ENOBUFS): it may have been made, or not.
const repeats = 2

// repeatable says that the changes may be made though they have been made already.
func repeatable(changes []ruleset.Change) bool {
	return !slices.ContainsFunc(changes, func(change ruleset.Change) bool {
		switch ch := change.(type) {
		case ruleset.ReplaceTable, ruleset.AddChain, ruleset.AddElements:
			return false
		case ruleset.DeleteTable:
			return !ch.IgnoreMissing
		case ruleset.DeleteElements:
			return !ch.IgnoreMissing
		}
		return true
	})
}

// failed is one message of a batch that the kernel refused; part is -1 where the
// whole batch failed.
type failed struct {
	part   int
	errno  unix.Errno
	detail string
}

// exchange sends the batch and reads what became of it. Without commit the batch
// has no end, and the kernel undoes it when it has checked it (as `nft -c` does).
func (c *Conn) exchange(b *batch, commit bool) ([]failed, error) {
	c.seq = b.finish(commit)
	var refused *faultpoint.Error
	if errors.As(faultpoint.Here("nft.refused"), &refused) {
		return []failed{{part: -1, errno: refused.Errno}}, nil
	}
	if err := faultpoint.Here("nft.send"); err != nil {
		return nil, err
	}
	if err := c.sock.send(b.w.buf); err != nil {
		return nil, fmt.Errorf("send %d messages: %w", len(b.parts), err)
	}
	if err := faultpoint.Here("nft.unheard"); err != nil {
		return nil, err
	}
	replies, lost, err := c.sock.replies()
	if err != nil {
		return nil, err
	}
	var out []failed
	acked := false
	last := b.first + uint32(len(b.parts))
	for _, r := range replies {
		part := int(int32(r.seq - b.first - 1))
		if part < -1 || part >= len(b.parts) {
			// Not of this batch.
			continue
		}
		acked = acked || r.seq == last
		if r.errno != 0 {
			out = append(out, failed{part: part, errno: r.errno, detail: r.detail})
		}
	}
	if len(out) == 0 && !acked {
		if lost {
			return nil, unix.ENOBUFS
		}
		return nil, errors.New("the kernel did not answer")
	}
	return out, nil
}
