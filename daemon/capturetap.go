package daemon

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/capture"
	"github.com/fairlead/fairlead/capture/filter"
	"github.com/fairlead/fairlead/capture/pcapng"
	kernel "github.com/fairlead/fairlead/kernel/capture"
)

// tap opens an interface of the target.
func (t target) tap(name string, r api.CaptureRequest) (capture.Tap, error) {
	hardware, err := kernel.Hardware(t.path, name)
	if err != nil {
		return capture.Tap{}, err
	}
	linkType, ok := capture.LinkType(hardware)
	if !ok {
		return capture.Tap{}, fmt.Errorf("interface %s of %s is of a type (%d) whose packets are neither Ethernet's nor IP's; choose others with -i: %w",
			name, t.what, hardware, errdefs.ErrNotImplemented)
	}
	keep := uint32(kernel.MaxSnapLen)
	if r.SnapLen > 0 {
		keep = uint32(min(r.SnapLen, kernel.MaxSnapLen))
	}
	link := filter.Ethernet
	if linkType == pcapng.LinkRaw {
		link = filter.Raw
	}
	program, err := filter.Compile(r.Filter, filter.Options{Link: link, Keep: keep, Lookup: t.lookup})
	if err != nil {
		return capture.Tap{}, err
	}
	source, err := kernel.Open(t.path, name, kernel.Options{Filter: program, Promiscuous: t.bridge})
	if err != nil {
		return capture.Tap{}, err
	}
	tap := capture.Tap{
		Source: source,
		Interface: pcapng.Interface{
			Name: name, Description: t.describe(name), Filter: r.Filter, LinkType: linkType, SnapLen: keep,
		},
	}
	switch r.Direction {
	case "in":
		tap.Wanted = func(p kernel.Packet) bool { return !p.Outgoing }
	case "out":
		tap.Wanted = func(p kernel.Packet) bool { return p.Outgoing }
	}
	return tap, nil
}
