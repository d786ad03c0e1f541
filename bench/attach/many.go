package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// shape is how many ports one container publishes, and how.
type shape struct {
	Ports int
	// Range has them follow each other; else it is every other port.
	Range bool
	// Only4 publishes them on the host's IPv4 addresses alone.
	Only4 bool
}

// many is one attachment with ports of a shape, and its end.
type many struct {
	Up, Down time.Duration
	// Elements are of the firewall's maps of published ports; 0 where there are none.
	Elements int
}

// firstOfMany is the first port. All are below the kernel's ephemeral ports.
const firstOfMany = 10000

func (s shape) list() []port {
	out := make([]port, s.Ports)
	for i := range out {
		n := uint16(firstOfMany + 2*i)
		if s.Range {
			n = uint16(firstOfMany + i)
		}
		out[i] = port{n, n}
	}
	return out
}

func (s *subject) many(ctx context.Context, sh shape) (m many, err error) {
	a, err := s.net.attachment(wish{n: s.fresh(), ports: sh.list(), only4: sh.Only4})
	if err != nil {
		return m, err
	}
	if m.Up, err = timed(ctx, a.up); err != nil {
		return m, err
	}
	if f, ok := s.net.(*fairlead); ok {
		if m.Elements, err = f.published(ctx); err != nil {
			return m, err
		}
	}
	m.Down, err = timed(ctx, a.down)
	return m, errors.Join(err, a.end())
}

// published counts the elements of the maps that lead to containers, as nft lists them.
func (f *fairlead) published(ctx context.Context) (int, error) {
	out, err := exec.CommandContext(ctx, "nft", "-j", "list", "table", "inet", "fairlead").Output()
	if err != nil {
		return 0, fmt.Errorf("nft: %w", err)
	}
	return countElements(out)
}

func countElements(listing []byte) (n int, err error) {
	var table struct {
		Nftables []struct {
			Map struct {
				Name string            `json:"name"`
				Elem []json.RawMessage `json:"elem"`
			} `json:"map"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(listing, &table); err != nil {
		return 0, fmt.Errorf("what nft lists: %w", err)
	}
	for _, o := range table.Nftables {
		if strings.HasPrefix(o.Map.Name, "publish") {
			n += len(o.Map.Elem)
		}
	}
	return n, nil
}
