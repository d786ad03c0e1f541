package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/fairlead/fairlead/kernel/netns"
)

// network is what attaches network namespaces, in a host of its own.
type network interface {
	prepare(ctx context.Context) error
	// attachment readies one; nothing of it is there yet.
	attachment(w wish) (*attachment, error)
	close() error
}

// wish is what one attachment is to be.
type wish struct {
	// n tells attachments apart that are there at once, from 1 on.
	n int
	// network is one that fill or kindOwn made; "" is the default one.
	network string
	ports   []port
	// only4 publishes on the host's IPv4 addresses alone.
	only4 bool
	// addr is the address to get; the zero one leaves the choice to who chooses.
	addr netip.Addr
}

// port is a published one, of TCP.
type port struct{ host, container uint16 }

// attachment is one namespace's network. What up and down do is measured.
type attachment struct {
	// netns is the namespace's path, and addr its address, once up has run.
	netns string
	addr  netip.Addr
	// dial is where a server on port 80 inside is reached from the host, given the
	// address.
	dial     func(netip.Addr) string
	up, down func(context.Context) error
	// rest is how long it has to be left alone between the two, and afterwards. It is not
	// measured, and what needs it is not attached again at once.
	rest time.Duration
	// end takes away what was readied.
	end func() error
}

// measuredPort is the host port of the attachment that is measured.
const measuredPort uint16 = 8080

var onePort = []port{{host: measuredPort, container: 80}}

// published is the host's own address on the bridge with that port: every subject's
// default network is 172.17.0.0/16, and its bridge 172.17.0.1.
func published(netip.Addr) string { return "172.17.0.1:8080" }

// containerID is a container's identifier as each peer takes it.
func containerID(n int) string { return fmt.Sprintf("%064x", n) }

// answers sees that a server inside is reached as it should be.
func (a *attachment) answers(ctx context.Context) error {
	ns, err := os.Open(a.netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	var l net.Listener
	err = netns.Do(ns, func() (err error) {
		l, err = net.Listen("tcp4", ":80")
		return err
	})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.WriteString(c, "here")
			err = errors.Join(err, c.Close())
		}
		served <- err
	}()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp4", a.dial(a.addr))
	if err != nil {
		err = fmt.Errorf("the attachment carries no traffic: %w", err)
		return errors.Join(err, l.Close(), <-served)
	}
	got, err := io.ReadAll(c)
	if err == nil && string(got) != "here" {
		err = fmt.Errorf("the server inside answered %q", got)
	}
	return errors.Join(err, c.Close(), <-served, l.Close())
}
