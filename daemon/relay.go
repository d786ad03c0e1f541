package daemon

import (
	"context"
	"os"
	"sync"

	"github.com/fairlead/fairlead/relay"
)

// keptRelay is a relay client that starts the process anew when it dies. It is a
// network.Relay.
type keptRelay struct {
	opts relay.Options

	mu      sync.Mutex
	current *relay.Client
}

func keepRelay(ctx context.Context, opts relay.Options) (*keptRelay, error) {
	client, err := relay.Ensure(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &keptRelay{opts: opts, current: client}, nil
}

func (k *keptRelay) client() *relay.Client {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// renew replaces the client whose process is gone.
func (k *keptRelay) renew(ctx context.Context) error {
	client, err := relay.Ensure(ctx, k.opts)
	if err != nil {
		return err
	}
	k.mu.Lock()
	old := k.current
	k.current = client
	k.mu.Unlock()
	_ = old.Close() // its process is gone
	return nil
}

func (k *keptRelay) Hold(ctx context.Context, b []relay.Binding) error {
	return k.client().Hold(ctx, b)
}

func (k *keptRelay) Release(ctx context.Context, owner string) error {
	return k.client().Release(ctx, owner)
}

func (k *keptRelay) List(ctx context.Context) ([]relay.Binding, error) { return k.client().List(ctx) }

func (k *keptRelay) KeepFirewallSocket(ctx context.Context, f *os.File) error {
	return k.client().KeepFirewallSocket(ctx, f)
}

func (k *keptRelay) FirewallSocket(ctx context.Context) (*os.File, error) {
	return k.client().FirewallSocket(ctx)
}
