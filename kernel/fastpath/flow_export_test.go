package fastpath

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
)

// Telling is how many frames of a connection the first word of it follows, and TellingAgain
// how many more another.
const Telling, TellingAgain = telling, tellingAgain

// Growth is growth.
func Growth(before, after []byte) uint32 { return growth(before, after) }

// Counted is that the hardware has counted the sum of the frame, which the kernel looks at
// again when the program has run (BPF_F_TEST_SKB_CHECKSUM_COMPLETE, Linux 6.15).
const Counted = 1 << 2

// Run runs the program of flows at a container's port, or at the host's own link, with a
// frame that comes in there. It returns what it says and what became of the frame, which
// goes nowhere. It works in the namespace of the calling thread.
func (p *Path) Run(outside bool, index int, frame []byte, flags uint32) (verdict int32, out []byte, err error) {
	program := p.flows.inside
	if outside {
		program = p.flows.outside
	}
	skb := make([]byte, 192) // struct __sk_buff (linux/bpf.h)
	binary.NativeEndian.PutUint32(skb[ctxIfIndex:], uint32(index))
	run := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64), Context: skb, Flags: flags}
	v, err := program.Run(run)
	return int32(v), run.DataOut, err
}

// What Run returns.
const (
	Next       = tcxNext
	Redirected = 7 // TCX_REDIRECT of linux/bpf.h
)
