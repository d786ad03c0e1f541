package drops

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"
)

// offsets are where the fields are that the program reads, in bytes.
type offsets struct {
	// In struct sk_buff. tail is an offset from head where unsigned int is not a pointer
	// (NET_SKBUFF_DATA_USES_OFFSET), as on every 64-bit machine.
	head, tail, networkHeader, device, route, socket uint32
	// In struct dst_entry, net_device, sock and net.
	routeDevice, index, name, deviceNet, socketNet, inode uint32
	// hasReason says that the tracepoint tells it (Linux 5.17).
	hasReason bool
}

// findOffsets looks them up in the kernel's description of itself.
func findOffsets(kernel *btf.Spec) (offsets, error) {
	var at offsets
	for _, f := range []struct {
		to   *uint32
		of   string
		path string
	}{
		{&at.head, "sk_buff", "head"},
		{&at.tail, "sk_buff", "tail"},
		{&at.networkHeader, "sk_buff", "network_header"},
		{&at.device, "sk_buff", "dev"},
		{&at.route, "sk_buff", "_skb_refdst"},
		{&at.socket, "sk_buff", "sk"},
		{&at.routeDevice, "dst_entry", "dev"},
		{&at.index, "net_device", "ifindex"},
		{&at.name, "net_device", "name"},
		{&at.deviceNet, "net_device", "nd_net.net"},
		{&at.socketNet, "sock", "__sk_common.skc_net.net"},
		{&at.inode, "net", "ns.inum"},
	} {
		var s *btf.Struct
		if err := kernel.TypeByName(f.of, &s); err != nil {
			return at, fmt.Errorf("the kernel's struct %s: %w", f.of, err)
		}
		var t btf.Type = s
		for name := range strings.SplitSeq(f.path, ".") {
			offset, of, ok := member(t, name)
			if !ok {
				return at, fmt.Errorf("the kernel's struct %s has no %s", f.of, f.path)
			}
			*f.to += offset
			t = of
		}
	}
	var hook *btf.Typedef
	if err := kernel.TypeByName("btf_trace_kfree_skb", &hook); err != nil {
		return at, fmt.Errorf("the tracepoint skb:kfree_skb: %w", err)
	}
	if pointer, ok := hook.Type.(*btf.Pointer); ok {
		if f, ok := pointer.Target.(*btf.FuncProto); ok {
			// The first is the tracepoint's own.
			at.hasReason = len(f.Params) >= 4
		}
	}
	return at, nil
}

// member finds a field of a structure, in its parts without names, too.
func member(t btf.Type, name string) (offset uint32, of btf.Type, ok bool) {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		if m.Name == name {
			return m.Offset.Bytes(), m.Type, true
		}
		if m.Name != "" {
			continue
		}
		if inner, of, ok := member(m.Type, name); ok {
			return m.Offset.Bytes() + inner, of, true
		}
	}
	return 0, nil, false
}

// reasons are the kernel's names by their numbers; none before Linux 5.17.
func reasons(kernel *btf.Spec) map[uint32]string {
	out := make(map[uint32]string)
	var e *btf.Enum
	if kernel.TypeByName("skb_drop_reason", &e) != nil {
		return out
	}
	for _, v := range e.Values {
		out[uint32(v.Value)] = strings.TrimPrefix(strings.TrimPrefix(v.Name, "SKB_"), "DROP_REASON_")
	}
	return out
}

// functions are those that were asked for, by a place in them.
var functions sync.Map

// Function names the kernel's function that a place is in: the last that begins before
// it (/proc/kallsyms). "" where the kernel hides its symbols. It takes some milliseconds
// for a place that was not asked for before.
func Function(location uint64) string {
	if name, ok := functions.Load(location); ok {
		return name.(string)
	}
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return ""
	}
	defer f.Close()
	var best uint64
	name := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// address, type, name and, of a module, its name
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || !strings.EqualFold(fields[1], "t") && !strings.EqualFold(fields[1], "w") {
			continue
		}
		begins, err := strconv.ParseUint(fields[0], 16, 64)
		if err == nil && begins > best && begins <= location {
			best, name = begins, fields[2]
		}
	}
	functions.Store(location, name)
	return name
}
