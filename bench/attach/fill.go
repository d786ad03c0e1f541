package attach

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Load is what a host has before it is measured.
type Load struct {
	// Networks there are, Bridges of which have the Endpoints, evenly.
	Networks, Bridges, Endpoints int
	// Ports each endpoint publishes, on the host's IPv4 addresses alone where Only4.
	Ports int
	Only4 bool
	// Files is the limit of open files, set by fill.
	Files int
}

// Of a process's open files these are for what is not a port of the load: resolvers have
// two for each container, and what is measured has its own.
const (
	filesOfResolver = 2
	filesElsewhere  = 400
)

// within is as much of the load as fits under a limit of open files: the relay has a
// socket for each port and family.
func (l Load) within(files int) Load {
	l.Files = files
	if l.Endpoints == 0 {
		return l
	}
	each := max(0, (files-filesElsewhere)/l.Endpoints-filesOfResolver)
	switch {
	case 2*l.Ports <= each:
	case l.Ports <= each:
		l.Only4 = true
	default:
		l.Only4, l.Ports = true, each
	}
	return l
}

// openFiles is the limit that a process may raise its own to.
func openFiles() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	// With CAP_SYS_RESOURCE it may have more.
	if more := (unix.Rlimit{Cur: wantedFiles, Max: max(wantedFiles, l.Max)}); unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
		return int(min(more.Cur, 1<<30)), nil
	}
	l.Cur = l.Max
	return int(l.Max), unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
}

const wantedFiles = 1 << 17

// fill attaches endpoints that stay, each with published ports of its own.
func (s *subject) fill(ctx context.Context, l Load) (Load, error) {
	files, err := openFiles()
	if err != nil {
		return l, err
	}
	l = l.within(files)
	f, ok := s.net.(interface {
		makeNetwork(ctx context.Context, name, subnet string) error
	})
	if !ok {
		return l, errors.New("cannot be loaded")
	}
	for i := range l.Networks {
		if err := f.makeNetwork(ctx, loadNetwork(i), fmt.Sprintf("10.200.%d.0/24", i)); err != nil {
			return l, fmt.Errorf("network %d: %w", i, err)
		}
	}
	for i := range l.Endpoints {
		w := wish{n: s.fresh(), network: loadNetwork(i % l.Bridges), only4: l.Only4}
		for p := range l.Ports {
			w.ports = append(w.ports, port{host: firstOfMany + uint16(i*l.Ports+p), container: uint16(1 + p)})
		}
		a, err := s.net.attachment(w)
		if err != nil {
			return l, err
		}
		if err := a.up(ctx); err != nil {
			return l, fmt.Errorf("endpoint %d: %w", i, err)
		}
	}
	return l, nil
}

func loadNetwork(i int) string { return fmt.Sprintf("net%d", i) }
