package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// Netlink attributes are multiples of four bytes, a length and a type in the
// host's order before each; what nf_tables puts inside is in network order.
const (
	headerLen = unix.NLMSG_HDRLEN + 4 // nlmsghdr and nfgenmsg
	attrLen   = 4                     // nlattr
)

// Values of linux/netfilter/nf_tables.h that golang.org/x/sys/unix lacks.
const (
	msgDestroyTable   = 26 // Linux 6.3
	msgDestroySetElem = 30 // Linux 6.3

	tableFlagOwner   = 0x2 // Linux 5.12
	tableFlagPersist = 0x4 // Linux 6.9

	nlaTypeMask = 0x3fff // linux/netlink.h

	attrTableUserdata = 6
	attrTableOwner    = 7

	attrSetDescConcat   = 2
	attrSetExpr         = 17 // Linux 5.7
	attrSetFieldLen     = 1
	attrSetElemKeyEnd   = 10
	setFlagConcat       = 0x80
	userdataRuleComment = 0
	userdataSetComment  = 7
)

// writer builds netlink messages one after another.
type writer struct {
	buf []byte
	msg int // where the open message begins
}

// begin opens a message; res is what nfgenmsg calls the resource ID.
func (w *writer) begin(typ, flags uint16, family uint8, res uint16, seq uint32) {
	w.msg = len(w.buf)
	w.buf = append(w.buf, make([]byte, headerLen)...)
	h := w.buf[w.msg:]
	binary.NativeEndian.PutUint16(h[4:], typ)
	binary.NativeEndian.PutUint16(h[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(h[8:], seq)
	h[16] = family
	h[17] = unix.NFNETLINK_V0
	binary.BigEndian.PutUint16(h[18:], res)
}

// end closes the open message.
func (w *writer) end() {
	binary.NativeEndian.PutUint32(w.buf[w.msg:], uint32(len(w.buf)-w.msg))
}

// nest opens an attribute that holds others.
func (w *writer) nest(typ uint16) int {
	at := len(w.buf)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, 0)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, typ|unix.NLA_F_NESTED)
	return at
}

// close ends what nest opened.
func (w *writer) close(at int) {
	binary.NativeEndian.PutUint16(w.buf[at:], uint16(len(w.buf)-at))
}

// attr opens an attribute of n bytes and returns them to be filled in.
func (w *writer) attr(typ uint16, n int) []byte {
	w.buf = binary.NativeEndian.AppendUint16(w.buf, uint16(attrLen+n))
	w.buf = binary.NativeEndian.AppendUint16(w.buf, typ)
	at := len(w.buf)
	w.buf = append(w.buf, make([]byte, align(n))...)
	return w.buf[at : at+n]
}

func (w *writer) bytes(typ uint16, b []byte) { copy(w.attr(typ, len(b)), b) }

func (w *writer) u32(typ uint16, v uint32) { binary.BigEndian.PutUint32(w.attr(typ, 4), v) }

func (w *writer) u64(typ uint16, v uint64) { binary.BigEndian.PutUint64(w.attr(typ, 8), v) }

// str is a string with the zero byte that ends it.
func (w *writer) str(typ uint16, s string) { copy(w.attr(typ, len(s)+1), s) }

func align(n int) int { return (n + 3) &^ 3 }

// userdata is what libnftnl keeps a comment in: type, length, text, zero byte.
func userdata(typ byte, text string) []byte {
	const most = 127 // NFTNL_UDATA_COMMENT_MAXLEN less the zero byte
	if len(text) > most {
		text = text[:most]
	}
	b := append([]byte{typ, byte(len(text) + 1)}, text...)
	return append(b, 0)
}

func familyNumber(f ruleset.Family) uint8 {
	switch f {
	case ruleset.Inet:
		return unix.NFPROTO_INET
	case ruleset.IPv4:
		return unix.NFPROTO_IPV4
	case ruleset.IPv6:
		return unix.NFPROTO_IPV6
	case ruleset.Bridge:
		return unix.NFPROTO_BRIDGE
	case ruleset.ARP:
		return unix.NFPROTO_ARP
	}
	return unix.NFPROTO_UNSPEC
}

// message is a part of what the kernel sent.
type message struct {
	typ   uint16
	flags uint16
	seq   uint32
	body  []byte
}

// messages cuts what one read returned.
func messages(b []byte) []message {
	var out []message
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			break
		}
		out = append(out, message{
			typ:   binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			body:  b[unix.NLMSG_HDRLEN:n],
		})
		b = b[min(align(n), len(b)):]
	}
	return out
}

// attributes calls f with every attribute of b, its type without flags.
func attributes(b []byte, f func(typ uint16, val []byte)) {
	for len(b) >= attrLen {
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrLen || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&nlaTypeMask, b[attrLen:n])
		b = b[min(align(n), len(b)):]
	}
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
