package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/ruleset"
	"github.com/fairlead/fairlead/store"
)

const (
	execRoot = "/run/fairlead" // on the host's own tmpfs
	// networks are those that the endpoints are on, evenly.
	networks = 20
	// healLimit is how long rules may be away.
	healLimit = 20 * time.Second
)

// restored is package network as the daemon runs it, with many endpoints: each in a
// sandbox of its own, with a published port and a resolver.
type restored struct {
	dir   string
	store *store.Store
	ours  *network.Controller
}

// open is what the daemon does with the network when it starts.
func (r *restored) open(ctx context.Context) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	dataRoot := filepath.Join(r.dir, "data")
	if err := errors.Join(os.MkdirAll(execRoot, 0o711), os.MkdirAll(dataRoot, 0o711)); err != nil {
		return err
	}
	if r.store, err = store.Open(dataRoot); err != nil {
		return err
	}
	relays, err := relay.Ensure(ctx, relay.Options{ExecRoot: execRoot, Logger: log})
	if err != nil {
		return err
	}
	r.ours, err = network.Open(ctx, network.Config{
		ExecRoot: execRoot, Store: r.store, Relay: relays, Log: log,
		Default:   network.DefaultNetwork{Masquerade: true, ICC: true},
		IPForward: true, UserlandProxy: true,
	})
	if err != nil {
		return err
	}
	return r.ours.Restore(ctx)
}

// close is the daemon's end; the relay lives on.
func (r *restored) close() error {
	var errs []error
	if r.ours != nil {
		errs = append(errs, r.ours.Close())
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	r.ours, r.store = nil, nil
	return errors.Join(errs...)
}

// fill attaches the endpoints.
func (r *restored) fill(ctx context.Context, endpoints int) error {
	if err := spawn.RaiseFileLimit(1 << 20); err != nil {
		return err
	}
	// As on Linux before 6.9: a table that its owner keeps is nobody else's to flush.
	if err := os.Setenv(nft.LacksEnv, "persist"); err != nil {
		return err
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	for i := range networks {
		if _, err := r.ours.CreateNetwork(ctx, spec.NetworkRequest{Name: fmt.Sprintf("net%d", i), IPv6: true}); err != nil {
			return err
		}
	}
	for i := range endpoints {
		name := fmt.Sprintf("bench%d", i)
		_, err := r.ours.Attach(ctx, spec.AttachRequest{
			ID: fmt.Sprintf("%064x", i+1), Name: name,
			Endpoints: []spec.EndpointRequest{{Network: fmt.Sprintf("net%d", i%networks), Names: []string{name}}},
			Ports:     []spec.PortRequest{{Proto: spec.TCP, Port: 80}},
		})
		if err != nil {
			return fmt.Errorf("endpoint %d: %w", i, err)
		}
	}
	return nil
}

// restart ends the daemon's part and starts it again, and says how long the start took.
func (r *restored) restart(ctx context.Context) (time.Duration, error) {
	if err := r.close(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := r.open(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, r.right(ctx)
}

// flush takes every rule away, as another program would, and says how long it took from
// the start of that program until the tables were back.
func (r *restored) flush(ctx context.Context) (time.Duration, error) {
	socket, err := nft.NewSocket()
	if err != nil {
		return 0, err
	}
	conn, err := nft.Open(socket)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if out, err := exec.CommandContext(ctx, "nft", "flush", "ruleset").CombinedOutput(); err != nil {
		return 0, errors.Join(fmt.Errorf("nft flush ruleset: %w: %s", err, out), conn.Close())
	}
	took, err := r.await(conn, began)
	return took, errors.Join(err, conn.Close(), r.right(ctx))
}

// await waits until both tables are there, which come with all that is in them.
func (r *restored) await(conn *nft.Conn, began time.Time) (time.Duration, error) {
	for ; time.Since(began) < healLimit; time.Sleep(time.Millisecond) {
		there := 0
		for _, family := range []ruleset.Family{ruleset.Inet, ruleset.Bridge} {
			has, err := conn.HasTable(family, r.ours.RuleTable())
			if err != nil {
				return 0, err
			}
			if has {
				there++
			}
		}
		if there == 2 {
			return time.Since(began), nil
		}
	}
	return 0, fmt.Errorf("the rules are not back after %s", healLimit)
}

// right sees that nothing differs from what is wanted.
func (r *restored) right(ctx context.Context) error {
	differs, err := r.ours.Check(ctx)
	if err == nil && len(differs) > 0 {
		err = fmt.Errorf("%d things are not as wanted: %s", len(differs), strings.Join(differs[:min(3, len(differs))], "; "))
	}
	return err
}
