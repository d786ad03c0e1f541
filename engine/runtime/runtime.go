// Package runtime is the engine's small view of containerd: it finds the
// system's containerd or keeps a child of its own running, and offers the few
// operations on snapshots, containers and tasks that the engine needs.
//
// It holds no state about containers and takes no decision about them; what is
// kept when containerd dies is containerd's. Nothing here knows HTTP, names,
// networks or logs.
package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fairlead/fairlead/internal/event"
)

// Snapshotter is the one snapshotter in use.
const Snapshotter = "overlayfs"

// SystemSocket is where a distribution's containerd listens.
const SystemSocket = "/run/containerd/containerd.sock"

// Config says which containerd to use and where a child of ours lives.
type Config struct {
	// Address is the socket of a containerd to use as it is; "" takes the
	// system's where it is in our mount and pid namespace, else a child.
	Address string
	// Namespace is containerd's namespace; "" is DefaultNamespace(DataRoot).
	Namespace string
	// DataRoot and ExecRoot are the daemon's; a child lives in the
	// containerd directory of each.
	DataRoot, ExecRoot string
	// Child starts one of our own, whatever the system has.
	Child bool
	// Logger is slog.Default when nil.
	Logger *slog.Logger
	// Events is told when a child is started again; nil for nobody.
	Events *event.Source
}

// DefaultNamespace is the containerd namespace of a daemon: "fairlead" for the
// default data root, and a name derived from the path for any other, so that
// two daemons on one containerd never see each other's containers.
func DefaultNamespace(dataRoot string) string {
	dataRoot = filepath.Clean(dataRoot)
	if dataRoot == "/var/lib/fairlead" {
		return "fairlead"
	}
	sum := sha256.Sum256([]byte(dataRoot))
	return "fairlead-" + hex.EncodeToString(sum[:4])
}

// Containerd is a connection to one containerd, in one namespace. It survives
// containerd's restarts: a call made meanwhile fails with errdefs.ErrUnavailable,
// and WaitTask waits.
type Containerd struct {
	client    *client.Client
	address   string
	namespace string
	// runcRoot is where runc keeps its state, by namespace: under the exec
	// root, so that it goes with it.
	runcRoot  string
	log       *slog.Logger
	child     *child // nil for a containerd that is not ours
	closed    chan struct{}
	closeOnce sync.Once
}

// Start connects to containerd, and starts a child when there is no other. The
// child outlives the daemon: one that an earlier daemon left running is used
// again. It returns errdefs.ErrUnavailable when no containerd can be had.
func Start(ctx context.Context, cfg Config) (*Containerd, error) {
	quiet()
	if cfg.Namespace == "" {
		cfg.Namespace = DefaultNamespace(cfg.DataRoot)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Containerd{
		address: cfg.Address, namespace: cfg.Namespace, runcRoot: filepath.Join(cfg.ExecRoot, "runc"),
		log: cfg.Logger, closed: make(chan struct{}),
	}
	if c.address == "" && !cfg.Child {
		var err error
		if c.address, err = choose(ctx, cfg.DataRoot, SystemSocket); err != nil {
			return nil, err
		}
	}
	if c.address == "" {
		ch, err := startChild(ctx, cfg)
		if err != nil {
			return nil, err
		}
		c.child, c.address = ch, ch.socket
	}
	var err error
	if c.client, err = connect(c.address, c.namespace); err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", c.address, err)
	}
	if c.child != nil {
		// From the beginning: the one that was found may be about to end.
		go c.child.supervise(c.closed)
	}
	if err := c.serving(ctx, 10*time.Second); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// quiet takes over what containerd's client library has to say, through a
// logger of its own.
var quiet = sync.OnceFunc(func() { log.L.Logger.SetOutput(debugLog{}) })

type debugLog struct{}

func (debugLog) Write(p []byte) (int, error) {
	slog.Debug("containerd client", "said", strings.TrimSpace(string(p)))
	return len(p), nil
}

// connect dials lazily; a containerd that was restarted is found again within
// half a second.
func connect(address, namespace string) (*client.Client, error) {
	wait := backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.1, MaxDelay: 500 * time.Millisecond}
	return client.New(address,
		client.WithDefaultNamespace(namespace),
		client.WithDialOpts([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: wait, MinConnectTimeout: 5 * time.Second}),
			grpc.WithContextDialer(dial),
			grpc.WithChainUnaryInterceptor(failing),
		}))
}

// dial connects to the unix socket of a gRPC target, or fails at once: gRPC
// itself knows when to try again.
func dial(ctx context.Context, target string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", strings.TrimPrefix(target, "unix://"))
}

// serving waits until containerd answers its health check.
func (c *Containerd) serving(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := c.client.IsServing(ctx)
		if ok {
			return nil
		}
		// It is tried again now, not when the pauses of connect say so: one that is being
		// started begins to listen between two of them.
		if conn, is := c.client.Conn().(*grpc.ClientConn); is {
			conn.ResetConnectBackoff()
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}
			return fmt.Errorf("containerd at %s does not answer: %w: %w", c.address, err, errdefs.ErrUnavailable)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Client is the connection itself, for the image store.
func (c *Containerd) Client() *client.Client { return c.client }

// Address is the socket of the containerd in use.
func (c *Containerd) Address() string { return c.address }

// Namespace is containerd's namespace that everything of ours is in.
func (c *Containerd) Namespace() string { return c.namespace }

// Version is containerd's own, such as 1.6.20.
func (c *Containerd) Version(ctx context.Context) (string, error) {
	v, err := c.client.Version(ctx)
	if err != nil {
		return "", fmt.Errorf("ask containerd for its version: %w", err)
	}
	return v.Version, nil
}

// RuncVersion returns the version of the runc that shims start.
func RuncVersion(ctx context.Context) (string, error) {
	runc, err := lookPath("runc")
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, runc, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask runc for its version: %w", err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(first, "runc version "), nil
}

// Close lets go of containerd, which lives on with its containers.
func (c *Containerd) Close() error {
	var err error
	c.closeOnce.Do(func() {
		close(c.closed)
		err = c.client.Close()
		if c.child != nil {
			c.child.leave()
		}
	})
	return err
}

// Stop closes the connection and ends a containerd that is our child; its
// sockets go with it, the content under the data root stays. It is for a
// teardown, when no container is left.
func (c *Containerd) Stop(ctx context.Context) error {
	if err := c.Close(); err != nil {
		return fmt.Errorf("close the connection to containerd: %w", err)
	}
	if c.child == nil {
		return nil
	}
	return c.child.stop(ctx)
}
