package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/fairlead/fairlead/kernel/netns"
)

// network is a subject that attaches network namespaces.
type network interface {
	prepare(ctx context.Context) error
	// attachment readies the n-th attachment, n from 1 on, with those host
	// ports published as port 80; nothing of it is there yet.
	attachment(n int, ports []uint16) (attachment, error)
	close() error
}

// attachment is one namespace's network. What up and down do is measured.
type attachment struct {
	// netns is the namespace's path, once up has run.
	netns string
	// dial is where a server on port 80 inside is reached from the host.
	dial     string
	up, down func(context.Context) error
	// end takes away what was readied.
	end func() error
}

// measuredPort is the host port of the attachment that is measured.
const measuredPort uint16 = 8080

// published is the host's own address on the bridge with that port: every
// subject's network is 172.17.0.0/16, and its bridge 172.17.0.1.
const published = "172.17.0.1:8080"

// containerID is a container's identifier as each peer takes it.
func containerID(n int) string { return fmt.Sprintf("%064x", n) }

// attachments measures a network.
type attachments struct {
	network
	n int
}

func (a *attachments) next(ports []uint16) (attachment, error) {
	a.n++
	return a.attachment(a.n, ports)
}

// prepare readies the network and sees that it does what it is measured for.
func (a *attachments) prepare(ctx context.Context) error {
	if err := a.network.prepare(ctx); err != nil {
		return err
	}
	att, err := a.next([]uint16{measuredPort})
	if err != nil {
		return err
	}
	if err := att.up(ctx); err != nil {
		return err
	}
	return errors.Join(answers(ctx, att), att.down(ctx), att.end())
}

func (a *attachments) once(ctx context.Context, _ string) (up, down time.Duration, err error) {
	att, err := a.next([]uint16{measuredPort})
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := att.up(ctx); err != nil {
		return 0, 0, err
	}
	up = time.Since(start)
	start = time.Now()
	if err := att.down(ctx); err != nil {
		return 0, 0, err
	}
	return up, time.Since(start), att.end()
}

// fill attaches endpoints that stay, each with published ports of its own.
func (a *attachments) fill(ctx context.Context, endpoints, ports int) error {
	for i := range endpoints {
		own := make([]uint16, ports)
		for j := range own {
			own[j] = uint16(10000 + i*ports + j)
		}
		att, err := a.next(own)
		if err != nil {
			return err
		}
		if err := att.up(ctx); err != nil {
			return fmt.Errorf("endpoint %d: %w", i, err)
		}
	}
	return nil
}

// answers sees that a server inside is reached as it should be.
func answers(ctx context.Context, att attachment) error {
	ns, err := os.Open(att.netns)
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
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "here")
			c.Close()
		}
	}()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp4", att.dial)
	if err != nil {
		return fmt.Errorf("the attachment carries no traffic: %w", err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "here" {
		return fmt.Errorf("the server inside answered %q, %w", got, err)
	}
	return nil
}
