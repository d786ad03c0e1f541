package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/bench/engine"
	"github.com/fairlead/fairlead/kernel/netns"
)

// asked is the container whose name is asked for.
const asked = "web"

// site is one subject in its host: a container that asks for another's name, or for
// the floor a namespace with an echo.
type site struct {
	engine *engine.Engine
	asker  *os.File // its network namespace
	server netip.AddrPort
	query  []byte
}

// newSite makes two containers on a network of their own.
func newSite(ctx context.Context, subject, dir string) (s *site, err error) {
	s = &site{}
	if s.query, err = new(dns.Msg).SetQuestion(asked+".", dns.TypeA).Pack(); err != nil {
		return nil, err
	}
	if subject == Floor {
		if s.server, err = startEcho(ctx); err == nil {
			err = s.settle()
		}
		return s, err
	}
	if s.engine, err = engine.New(engines[subject], dir); err != nil {
		return nil, err
	}
	if err := s.engine.Start(ctx, dir); err != nil {
		return nil, err
	}
	if _, err := s.engine.Run(ctx, "network", "create", "bench"); err != nil {
		return s, err
	}
	if _, err := s.engine.Idle(ctx, asked, "--network", "bench"); err != nil {
		return s, err
	}
	path, err := s.engine.Idle(ctx, "asker", "--network", "bench")
	if err != nil {
		return s, err
	}
	if s.asker, err = netns.Open(path); err != nil {
		return s, err
	}
	conf, err := s.engine.Run(ctx, "exec", "asker", "cat", "/etc/resolv.conf")
	if err != nil {
		return s, err
	}
	if s.server, err = nameserver(conf); err != nil {
		return s, err
	}
	err = s.settle()
	return s, err
}

// settle waits until there are answers, and then gives who asks and who answers a processor
// each.
func (s *site) settle() error {
	if err := s.ready(); err != nil {
		return err
	}
	return pin()
}

// nameserver is the first of a resolv.conf.
func nameserver(conf string) (netip.AddrPort, error) {
	for line := range strings.Lines(conf) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "nameserver" {
			a, err := netip.ParseAddr(fields[1])
			return netip.AddrPortFrom(a, 53), err
		}
	}
	return netip.AddrPort{}, fmt.Errorf("there is no name server in %q", conf)
}

// ready waits until the name is answered: aardvark-dns starts when it likes.
func (s *site) ready() error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var found Sample
		err = s.with(func(c *client) (err error) {
			if err = c.ask(0, 1); err == nil {
				_, err = c.hear()
			}
			found = c.out
			return err
		})
		switch {
		case err != nil:
		case len(found.Times) == 1:
			return nil
		default:
			err = fmt.Errorf("none came within %s", patience)
		}
	}
	return fmt.Errorf("%s has no answer for %s: %w", s.server, asked, err)
}

// with gives f a client inside the asker's namespace.
func (s *site) with(f func(*client) error) error {
	var c *client
	open := func() (err error) {
		c, err = newClient(s.server, s.query)
		return err
	}
	in := func() error { return netns.Do(s.asker, open) }
	if s.asker == nil {
		in = open
	}
	if err := in(); err != nil {
		return err
	}
	return errors.Join(f(c), c.close())
}

func (s *site) close() {
	if s.asker != nil {
		_ = s.asker.Close()
	}
	if s.engine != nil {
		s.engine.Stop()
	}
}
