package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/ruleset"
)

// TableInfo is what the kernel says of a table.
type TableInfo struct {
	Family ruleset.Family
	Name   string
	Owner  bool
	// Persist says that the table stays when its owner goes.
	Persist bool
	// Port is the netlink port of the owner's socket; 0 where it has none.
	Port    uint32
	Comment string
}

// BaseChain is a chain of somebody's table that the kernel calls.
type BaseChain struct {
	Family   ruleset.Family
	Table    string
	Name     string
	Type     ruleset.ChainType
	Hook     ruleset.Hook
	Priority ruleset.Priority
	Policy   ruleset.Policy
	// Rules is how many there are in it.
	Rules int
}

// String names the chain as nft commands do.
func (c BaseChain) String() string { return fmt.Sprintf("%s %s %s", c.Family, c.Table, c.Name) }

// Tables lists every table of the namespace.
func (c *Conn) Tables() ([]TableInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []TableInfo
	err := c.dump(unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC, nil, func(family uint8, attrs []byte) {
		out = append(out, parseTable(family, attrs))
	}, func() { out = nil })
	if err != nil {
		return nil, fmt.Errorf("list nft tables: %w", err)
	}
	return out, nil
}

func parseTable(family uint8, attrs []byte) TableInfo {
	t := TableInfo{Family: familyName(family)}
	attributes(attrs, func(typ uint16, val []byte) {
		switch typ {
		case unix.NFTA_TABLE_NAME:
			t.Name = cString(val)
		case unix.NFTA_TABLE_FLAGS:
			t.Owner = number(val)&tableFlagOwner != 0
			t.Persist = number(val)&tableFlagPersist != 0
		case attrTableOwner:
			t.Port = number(val)
		case attrTableUserdata:
			t.Comment = userdataComment(val)
		}
	})
	return t
}

// HasTable says whether the table is there.
func (c *Conn) HasTable(family ruleset.Family, name string) (bool, error) {
	tables, err := c.Tables()
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if t.Family == family && t.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// Chains lists the base chains of every table of the namespace.
func (c *Conn) Chains() ([]BaseChain, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chains()
}

func (c *Conn) chains() ([]BaseChain, error) {
	var out []BaseChain
	err := c.dump(unix.NFT_MSG_GETCHAIN, unix.AF_UNSPEC, nil, func(family uint8, attrs []byte) {
		if ch, ok := parseChain(family, attrs); ok {
			out = append(out, ch)
		}
	}, func() { out = nil })
	if err != nil {
		return nil, fmt.Errorf("list nft chains: %w", err)
	}
	return out, nil
}

func parseChain(family uint8, attrs []byte) (BaseChain, bool) {
	ch := BaseChain{Family: familyName(family), Policy: ruleset.PolicyAccept}
	base := false
	attributes(attrs, func(typ uint16, val []byte) {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			ch.Table = cString(val)
		case unix.NFTA_CHAIN_NAME:
			ch.Name = cString(val)
		case unix.NFTA_CHAIN_TYPE:
			ch.Type = ruleset.ChainType(cString(val))
		case unix.NFTA_CHAIN_USE: // of rules: no rule jumps to a base chain
			ch.Rules = int(number(val))
		case unix.NFTA_CHAIN_POLICY:
			if number(val) == nfDrop {
				ch.Policy = ruleset.PolicyDrop
			}
		case unix.NFTA_CHAIN_HOOK:
			base = true
			attributes(val, func(typ uint16, val []byte) {
				switch typ {
				case unix.NFTA_HOOK_HOOKNUM:
					ch.Hook = hookName(family, number(val))
				case unix.NFTA_HOOK_PRIORITY:
					ch.Priority = ruleset.Priority(int32(number(val)))
				}
			})
		}
	})
	return ch, base
}

// hookName is the hook's name in families of the internet protocols; other
// families number theirs otherwise.
func hookName(family uint8, n uint32) ruleset.Hook {
	switch family {
	case unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_BRIDGE:
		for name, number := range hookNumbers {
			if number == n {
				return name
			}
		}
	}
	return ""
}

func familyName(n uint8) ruleset.Family {
	switch n {
	case unix.NFPROTO_INET:
		return ruleset.Inet
	case unix.NFPROTO_IPV4:
		return ruleset.IPv4
	case unix.NFPROTO_IPV6:
		return ruleset.IPv6
	case unix.NFPROTO_BRIDGE:
		return ruleset.Bridge
	case unix.NFPROTO_ARP:
		return ruleset.ARP
	case unix.NFPROTO_NETDEV:
		return "netdev"
	}
	return ruleset.Family(fmt.Sprintf("family %d", n))
}

// dumpedRule is a rule as the kernel keeps it.
type dumpedRule struct {
	table   string
	chain   string
	handle  uint64
	exprs   []dumpedExpr
	comment string
}

// dumpedExpr is one expression: its name and its attributes.
type dumpedExpr struct {
	name string
	data []byte
}

func parseRule(attrs []byte) dumpedRule {
	var r dumpedRule
	attributes(attrs, func(typ uint16, val []byte) {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			r.table = cString(val)
		case unix.NFTA_RULE_CHAIN:
			r.chain = cString(val)
		case unix.NFTA_RULE_HANDLE:
			if len(val) == 8 {
				r.handle = binary.BigEndian.Uint64(val)
			}
		case unix.NFTA_RULE_USERDATA:
			r.comment = userdataComment(val)
		case unix.NFTA_RULE_EXPRESSIONS:
			attributes(val, func(_ uint16, elem []byte) {
				var e dumpedExpr
				attributes(elem, func(typ uint16, val []byte) {
					switch typ {
					case unix.NFTA_EXPR_NAME:
						e.name = cString(val)
					case unix.NFTA_EXPR_DATA:
						// The buffer is read into again.
						e.data = append([]byte(nil), val...)
					}
				})
				r.exprs = append(r.exprs, e)
			})
		}
	})
	return r
}

// userdataComment finds the comment among type-length-value triples.
func userdataComment(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == userdataRuleComment {
			return cString(b[2 : 2+int(b[1])])
		}
		b = b[2+int(b[1]):]
	}
	return ""
}

// dumpTries is how often a dump is begun: another program's change interrupts it.
const dumpTries = 20

// dump asks for objects and calls each with every one's attributes; reset is
// called before it begins again.
func (c *Conn) dump(typ uint16, family uint8, ask func(w *writer), each func(family uint8, attrs []byte), reset func()) error {
	for range dumpTries {
		err := c.dumpOnce(typ, family, ask, each)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		reset()
	}
	return fmt.Errorf("other programs changed the firewall %d times meanwhile: %w", dumpTries, unix.EINTR)
}

func (c *Conn) dumpOnce(typ uint16, family uint8, ask func(w *writer), each func(family uint8, attrs []byte)) error {
	if err := c.sock.drain(); err != nil {
		return err
	}
	if err := faultpoint.Here("nft.dump"); err != nil {
		return err
	}
	c.seq++
	var w writer
	w.begin(unix.NFNL_SUBSYS_NFTABLES<<8|typ, unix.NLM_F_DUMP, family, 0, c.seq)
	if ask != nil {
		ask(&w)
	}
	w.end()
	if err := c.sock.send(w.buf); err != nil {
		return err
	}
	interrupted := false
	for {
		b, err := c.sock.receive()
		if err != nil {
			return err
		}
		for _, m := range messages(b) {
			if m.seq != c.seq {
				continue
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case m.typ == unix.NLMSG_ERROR && len(m.body) >= 4:
				return parseReply(m).errno
			case m.typ == unix.NLMSG_DONE && interrupted:
				return unix.EINTR
			case m.typ == unix.NLMSG_DONE:
				return nil
			case len(m.body) >= 4:
				each(m.body[0], m.body[4:])
			}
		}
	}
}
