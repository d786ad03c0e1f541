package fastpath

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// attached is a program that somebody has at an interface.
type attached struct {
	id   ebpf.ProgramID
	name string
}

// programs are those at one side of the interface, in the order that they run.
func (p *Path) programs(index int, side ebpf.AttachType) ([]attached, error) {
	found, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: side})
	if err != nil {
		return nil, fmt.Errorf("look for programs at interface %d: %w", index, err)
	}
	out := make([]attached, 0, len(found.Programs))
	for _, f := range found.Programs {
		name, err := nameOf(f.ID)
		if errors.Is(err, unix.ENOENT) {
			continue // it is gone
		}
		if err != nil {
			return nil, fmt.Errorf("look at a program at interface %d: %w", index, err)
		}
		out = append(out, attached{f.ID, name})
	}
	return out, nil
}

func nameOf(id ebpf.ProgramID) (string, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", err
	}
	return info.Name, nil
}

// At says whether the program is at the interface, and names one of somebody else's at
// either side of it, "" for none.
func (p *Path) At(index int) (mine bool, others string, err error) {
	info, err := p.program.Info()
	if err != nil {
		return false, "", fmt.Errorf("look at the fast path's program: %w", err)
	}
	own, _ := info.ID()
	for _, side := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		there, err := p.programs(index, side)
		if err != nil {
			return false, "", err
		}
		for _, t := range there {
			switch {
			case t.id == own && side == ebpf.AttachTCXIngress:
				mine = true
			case !strings.HasPrefix(t.name, prefix):
				others = fmt.Sprintf("%s (number %d)", t.name, t.id)
			}
		}
	}
	return mine, others, nil
}

// Filters names a program that somebody has at a hook of netfilter, on the whole machine: the
// kernel does not say in which namespace (BPF_LINK_TYPE_NETFILTER, Linux 6.4). "" is for none.
func Filters() (string, error) {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if errors.Is(err, unix.ENOENT) {
			continue // it is gone
		}
		if err != nil {
			return "", fmt.Errorf("look at the links of programs: %w", err)
		}
		if info.Type == link.NetfilterType {
			name, err := nameOf(info.Program)
			return fmt.Sprintf("%s (number %d)", name, info.Program), err
		}
	}
	if err := it.Err(); err != nil {
		return "", fmt.Errorf("list the links of programs: %w", err)
	}
	return "", nil
}

// Detach takes the programs of the tag off the interface, of whichever owner's life. The
// kernel waits as for Attach.
func Detach(tag string, index int) error {
	p := &Path{}
	there, err := p.programs(index, ebpf.AttachTCXIngress)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range there {
		if t.name != prefix+tag[:min(7, len(tag))] {
			continue
		}
		program, err := ebpf.NewProgramFromID(t.id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: program, Attach: ebpf.AttachTCXIngress}), program.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take the fast path off interface %d: %w", index, err)
	}
	return nil
}
