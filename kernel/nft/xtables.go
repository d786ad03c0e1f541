package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// The matches of iptables inside nf_tables (nft_compat.c), and the layouts of
// linux/netfilter/xt_devgroup.h and xt_comment.h.
const (
	devgroupSource    = 1 << 0
	devgroupNotSource = 1 << 1
	devgroupDest      = 1 << 2
	devgroupNotDest   = 1 << 3

	commentSize = 256 // XT_MAX_COMMENT_LEN
)

func (e *exprWriter) xtMatch(name string, info []byte) {
	e.expr("match", func(w *writer) {
		w.str(unix.NFTA_MATCH_NAME, name)
		w.u32(unix.NFTA_MATCH_REV, 0)
		w.bytes(unix.NFTA_MATCH_INFO, info)
	})
}

// xtGroup is `-m devgroup --src-group` or `--dst-group`.
func (e *exprWriter) xtGroup(g ruleset.Group) {
	const allBits = 0xffffffff
	info := make([]byte, 20) // flags, source, its mask, destination, its mask
	flags, at := uint32(devgroupSource), 4
	if g.Not {
		flags |= devgroupNotSource
	}
	if g.Selector == ruleset.OIfGroup {
		flags, at = devgroupDest, 12
		if g.Not {
			flags |= devgroupNotDest
		}
	}
	binary.NativeEndian.PutUint32(info, flags)
	binary.NativeEndian.PutUint32(info[at:], g.Group)
	binary.NativeEndian.PutUint32(info[at+4:], allBits)
	e.xtMatch("devgroup", pad8(info))
}

// xtComment is `-m comment --comment`.
func (e *exprWriter) xtComment(text string) {
	if text == "" {
		return
	}
	info := make([]byte, commentSize)
	copy(info[:commentSize-1], text)
	e.xtMatch("comment", info)
}

// pad8 makes the size a multiple of eight, as the kernel's XT_ALIGN wants it.
func pad8(b []byte) []byte { return append(b, make([]byte, (8-len(b)%8)%8)...) }

// xtInfo is the name and data of a match or target of iptables.
func xtInfo(data []byte) (name string, info []byte) {
	// Both kinds number their attributes alike.
	attributes(data, func(typ uint16, val []byte) {
		switch typ {
		case unix.NFTA_MATCH_NAME:
			name = cString(val)
		case unix.NFTA_MATCH_INFO:
			info = val
		}
	})
	return name, info
}
