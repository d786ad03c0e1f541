package relay

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/internal/fdpass"
)

// Resolver is the name server of one sandbox.
type Resolver struct {
	dns.Sandbox
	// UDP and TCP are sockets inside the sandbox, bound and listening, to which
	// queries come. Without them a resolver that is there is told anew.
	UDP, TCP *os.File
}

// Served is a resolver that is there.
type Served struct {
	dns.Sandbox
	// UDP and TCP are where its sockets are bound.
	UDP netip.AddrPort `json:"udp"`
	TCP netip.AddrPort `json:"tcp"`
}

// HostFiles are where the host's own name servers are found.
type HostFiles struct {
	// ResolvConf is /etc/resolv.conf, as a rule.
	ResolvConf string `json:"resolv_conf"`
	// Uplinks is the file in which systemd-resolved says whom it asks.
	Uplinks string `json:"uplinks"`
}

// resolveParams: two descriptors, UDP and TCP, for each resolver with sockets, in
// order.
type resolveParams struct {
	Resolvers []resolverParam `json:"resolvers"`
}

type resolverParam struct {
	dns.Sandbox
	Sockets bool `json:"sockets"`
}

type introduceParams struct {
	Sandboxes []dns.Sandbox `json:"sandboxes"`
}

type servedResult struct {
	Resolvers []Served `json:"resolvers"`
}

// Resolve tells of sandboxes and their names, and has them served where sockets
// come with it. The files stay the caller's, who closes its copies. One without
// sockets that is not served gives errdefs.ErrNotFound; those before it have
// been told by then.
func (c *Client) Resolve(ctx context.Context, resolvers ...Resolver) error {
	var p resolveParams
	var files []*os.File
	for _, r := range resolvers {
		if (r.UDP == nil) != (r.TCP == nil) || r.ID == "" {
			return fmt.Errorf("resolver of sandbox %q: want an ID, and both sockets or none: %w", r.ID, errdefs.ErrInvalidArgument)
		}
		p.Resolvers = append(p.Resolvers, resolverParam{r.Sandbox, r.UDP != nil})
		if r.UDP != nil {
			files = append(files, r.UDP, r.TCP)
		}
	}
	if len(p.Resolvers) == 0 {
		return nil
	}
	_, err := c.rpc.Call(ctx, "resolve", p, files, nil)
	return err
}

// Introduce tells of sandboxes that are about to be served, so that the names of all
// are known before the first is. A release forgets them again.
func (c *Client) Introduce(ctx context.Context, sandboxes ...dns.Sandbox) error {
	_, err := c.rpc.Call(ctx, "introduce", introduceParams{sandboxes}, nil, nil)
	return err
}

// Unresolve ends the sandbox's resolver and returns when nothing of it is open;
// its held ports stay. One that has none is no error.
func (c *Client) Unresolve(ctx context.Context, owner string) error {
	_, err := c.rpc.Call(ctx, "unresolve", releaseParams{owner}, nil, nil)
	return err
}

// Resolvers lists those that are served, by sandbox.
func (c *Client) Resolvers(ctx context.Context) ([]Served, error) {
	var out servedResult
	_, err := c.rpc.Call(ctx, "resolvers", nil, nil, &out)
	return out.Resolvers, err
}

// FollowHost has the process read the host's name servers from the files, now and
// whenever they change.
func (c *Client) FollowHost(ctx context.Context, files HostFiles) error {
	_, err := c.rpc.Call(ctx, "follow-host", files, nil, nil)
	return err
}

// handleResolver answers the methods above.
func (s *server) handleResolver(ctx context.Context, r *fdpass.Request) (fdpass.Response, error) {
	switch r.Method {
	case "resolve":
		return fdpass.Response{}, s.resolve(r)
	case "introduce":
		var p introduceParams
		if err := r.Decode(&p); err != nil {
			return fdpass.Response{}, err
		}
		if s.table.isFrozen() {
			return fdpass.Response{}, errFrozen
		}
		s.resolvers.introduce(p.Sandboxes)
		return fdpass.Response{}, nil
	case "unresolve":
		var p releaseParams
		if err := r.Decode(&p); err != nil {
			return fdpass.Response{}, err
		}
		if err := s.resolvers.release(p.Owner); err != nil {
			return fdpass.Response{}, err
		}
		return fdpass.Response{}, s.service.Forward(ctx, "unresolve", p)
	case "resolvers":
		return fdpass.Response{Result: servedResult{s.resolvers.list()}}, nil
	case "follow-host":
		var files HostFiles
		if err := r.Decode(&files); err != nil {
			return fdpass.Response{}, err
		}
		return fdpass.Response{}, s.resolvers.followHost(files)
	}
	return fdpass.Response{}, fmt.Errorf("the relay knows no method %q: %w", r.Method, errdefs.ErrNotImplemented)
}

func (s *server) resolve(r *fdpass.Request) error {
	var p resolveParams
	if err := r.Decode(&p); err != nil {
		return err
	}
	want := 0
	for _, one := range p.Resolvers {
		if one.Sockets {
			want += 2
		}
	}
	if r.Count() != want {
		return fmt.Errorf("%d sockets for resolvers, want %d: %w", r.Count(), want, errdefs.ErrInvalidArgument)
	}
	fds := r.Take()
	for _, one := range p.Resolvers {
		var err error
		if one.Sockets {
			err = s.resolvers.serve(one.Sandbox, fds[0], fds[1])
			fds = fds[2:]
		} else {
			err = s.resolvers.tell(one.Sandbox)
		}
		if err != nil {
			fdpass.CloseFDs(fds)
			return err
		}
	}
	return nil
}
