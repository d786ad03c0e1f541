package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/fairlead/fairlead/engine/distribution"
	"github.com/fairlead/fairlead/internal/panics"
)

const (
	// retryDelay is how much longer each time the wait before a layer is asked for
	// again is.
	retryDelay = 500 * time.Millisecond
	// stallTime is how long a layer may bring nothing before it is asked for again.
	stallTime = 60 * time.Second
)

// transfer is one blob on its way from a registry, for all who want it. It is
// called off when the last of them is gone.
type transfer struct {
	total   int64
	current atomic.Int64
	// running is set once it is its turn; retries counts the broken connections.
	running atomic.Bool
	retries atomic.Int32
	done    chan struct{}
	err     error // once done is closed
	cancel  context.CancelFunc
	wanted  int // under Store.mu
}

// transfer begins to fetch the blob, or joins those who do; mine says which. leave
// is to be called once.
func (s *Store) transfer(desc ocispec.Descriptor, fetcher remotes.Fetcher) (t *transfer, mine bool, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t = s.transfers[desc.Digest]
	if t == nil {
		mine = true
		ctx, cancel := context.WithCancel(context.Background())
		t = &transfer{total: desc.Size, done: make(chan struct{}), cancel: cancel}
		s.transfers[desc.Digest] = t
		go s.run(ctx, t, desc, fetcher)
	}
	t.wanted++
	return t, mine, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.wanted--; t.wanted == 0 {
			t.cancel()
			s.forget(desc.Digest, t)
		}
	}
}

// forget is called with the lock held.
func (s *Store) forget(d digest.Digest, t *transfer) {
	if s.transfers[d] == t {
		delete(s.transfers, d)
	}
}

func (s *Store) run(ctx context.Context, t *transfer, desc ocispec.Descriptor, fetcher remotes.Fetcher) {
	defer close(t.done)
	defer t.cancel()
	slots := s.downloadSlots()
	if t.err = slots.Acquire(ctx, 1); t.err == nil {
		t.running.Store(true)
		t.err = s.fetch(ctx, t, desc, fetcher)
		slots.Release(1)
	}
	s.mu.Lock()
	s.forget(desc.Digest, t)
	s.mu.Unlock()
}

// downloadSlots are what those who download share.
func (s *Store) downloadSlots() *semaphore.Weighted {
	n := s.registries().Downloads()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.downloads == nil || s.slots != n {
		s.downloads, s.slots = semaphore.NewWeighted(int64(n)), n
	}
	return s.downloads
}

// fetch gets the blob; what an attempt brought, this pull's or an earlier one's, is
// where the next begins.
func (s *Store) fetch(ctx context.Context, t *transfer, desc ocispec.Descriptor, fetcher remotes.Fetcher) (failed error) {
	defer panics.Catch(&failed)
	attempts := s.registries().Attempts()
	desc.URLs = nil // a registry's own word on where else to ask is not followed
	for try := 1; ; try++ {
		err := s.fetchOnce(ctx, desc, counting{fetcher, t})
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if errdefs.IsFailedPrecondition(err) {
			// What is there is not what was promised: it must not be built upon.
			return errors.Join(fmt.Errorf("filesystem layer verification failed for digest %s: %w", desc.Digest, err), s.startAnew(ctx, desc))
		}
		if distribution.NoRange(err) {
			if err := s.startAnew(ctx, desc); err != nil {
				return err
			}
		}
		if try == attempts || !distribution.Transient(err) {
			return err
		}
		t.retries.Add(1)
		select {
		case <-time.After(time.Duration(try) * retryDelay):
		case <-ctx.Done():
		}
	}
}

// startAnew forgets what is there of the blob. The attempt that wrote it may still be
// on its way out in containerd, which then cannot remove it at once.
func (s *Store) startAnew(ctx context.Context, desc ocispec.Descriptor) (err error) {
	ctx = context.WithoutCancel(ctx)
	for range 20 {
		err = s.client.ContentStore().Abort(ctx, remotes.MakeRefKey(ctx, desc))
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("forget what came of %s: %w", desc.Digest, err)
}

// fetchOnce ends an attempt that brings nothing for too long.
func (s *Store) fetchOnce(ctx context.Context, desc ocispec.Descriptor, from counting) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for seen := int64(-1); ; seen = from.to.current.Load() {
			if from.to.current.Load() == seen {
				cancel(errStalled)
			}
			select {
			case <-time.After(stallTime):
			case <-ctx.Done():
				return
			}
		}
	}()
	_, err := remotes.FetchHandler(s.client.ContentStore(), from)(ctx, desc)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

var errStalled = fmt.Errorf("the registry sent nothing for %v", stallTime)

// counting notes in a transfer how much of a blob there is.
type counting struct {
	remotes.Fetcher
	to *transfer
}

func (c counting) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := c.Fetcher.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	c.to.current.Store(0)
	return &counter{r, c.to}, nil
}

type counter struct {
	io.ReadCloser
	to *transfer
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.to.current.Add(int64(n))
	return n, err
}

// Seek goes to where an earlier attempt ended.
func (c *counter) Seek(offset int64, whence int) (int64, error) {
	seeker, ok := c.ReadCloser.(io.Seeker)
	if !ok {
		return 0, fmt.Errorf("the registry cannot go on where it was: %w", errdefs.ErrNotImplemented)
	}
	at, err := seeker.Seek(offset, whence)
	if err == nil {
		c.to.current.Store(at)
	}
	return at, err
}
