package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// The kernel describes each element that is added or deleted to whoever watches, in a
// message of a page, which for a published port costs as much as the element itself. The
// watcher throws those of our own changes away: of many elements it is better not there.

// manyElements is how many make it worth to have the watcher go.
const manyElements = 16

// LookAway has the watcher, which must be of Watch with c's port, not listen while c
// changes many elements of a table that it owns. What others change meanwhile is told all
// the same.
func (c *Conn) LookAway(w *Watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watcher = w
}

// watched says whether the watcher has to stay. Nobody but its owner can change a table,
// so that of another's change need not be known which table it was in.
func (c *Conn) watched(changes []ruleset.Change) bool {
	if c.watcher == nil || !c.features.Persist {
		return true
	}
	n := 0
	for _, change := range changes {
		switch ch := change.(type) {
		case ruleset.AddElements:
			n += len(ch.Elements)
		case ruleset.DeleteElements:
			n += len(ch.Elements)
		default:
			return true
		}
	}
	return n < manyElements
}

// unwatched is exchange while the watcher does not listen. Whether others changed
// something meanwhile is told by the generation of the rulesets, which each transaction
// counts up by one, and which is read before the watcher goes and after it is back. A
// transaction that has counted and not told yet is waited for before it goes.
//
// One of another program is missed if this one turns out to change nothing. What it did is
// then found by network's healing, which looks at the packet filters again ten seconds after
// its last look though nothing tells of a change (mendFilters), and later only where a look
// takes more than half a second.
func (c *Conn) unwatched(b *batch, commit bool) ([]failed, error) {
	before, err := c.generation()
	if err == nil {
		err = c.settle()
	}
	if err == nil {
		err = c.watcher.member(unix.NETLINK_DROP_MEMBERSHIP)
	}
	if err != nil {
		return c.exchange(b, commit)
	}
	failures, err := c.exchange(b, commit)
	back := c.watcher.member(unix.NETLINK_ADD_MEMBERSHIP)
	after, unread := c.generation()
	made := before
	if err == nil && len(failures) == 0 {
		made++
	}
	if back != nil || unread != nil || after != before && after != made {
		c.watcher.tell()
	}
	return failures, err
}

// member joins or leaves the group that is told of changes.
func (w *Watcher) member(option int) error {
	return w.sock.call(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, unix.NFNLGRP_NFTABLES)
	})
}

// settle waits until transactions that others have begun are at their end: an empty one,
// which the kernel does not answer, has its turn behind them.
func (c *Conn) settle() error {
	b := c.newBatch(nil)
	c.seq = b.finish(true)
	return c.sock.send(b.w.buf)
}

// generation is how many transactions were made in the namespace.
func (c *Conn) generation() (uint32, error) {
	c.seq++
	var w writer
	w.begin(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, 0, c.seq)
	w.end()
	if err := c.sock.send(w.buf); err != nil {
		return 0, err
	}
	for {
		b, err := c.sock.receive()
		if err != nil {
			return 0, fmt.Errorf("generation of the rulesets: %w", err)
		}
		for _, m := range messages(b) {
			if m.seq != c.seq || len(m.body) < headerLen-unix.NLMSG_HDRLEN {
				continue
			}
			if m.typ == unix.NLMSG_ERROR {
				return 0, errors.New("the kernel does not tell the generation of the rulesets")
			}
			var gen uint32
			attributes(m.body[4:], func(typ uint16, val []byte) {
				if typ == unix.NFTA_GEN_ID && len(val) == 4 {
					gen = binary.BigEndian.Uint32(val)
				}
			})
			return gen, nil
		}
	}
}
