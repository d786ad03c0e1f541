package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Event is something that changed in a namespace.
type Event struct {
	Kind EventKind
	// Index is the link's that it is about, 0 where it is about none.
	Index int
	// Route is where a route leads, of a Kind that is EventRoute.
	Route netip.Prefix
}

// EventKind says what an Event is about.
type EventKind int

// The kinds of events. EventLost stands for an unknown number of events of any kind,
// for which there was no room.
const (
	EventLink EventKind = iota
	EventAddress
	EventRoute
	EventParameter // a link's forwarding, rp_filter, proxy_neigh (RTM_NEWNETCONF)
	EventLost
)

// monitored are the multicast groups of rtnetlink(7) whose events a Monitor gets. Those
// of the group LINK are also of bridges about their ports.
var monitored = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
	unix.RTNLGRP_TC, // what tc(8) changes; not what links are born with
}

// Monitor tells what changes among the links, addresses, routes and links' parameters
// of the namespace that it was opened in, whoever changes it.
type Monitor struct {
	c    *conn
	file *os.File
	raw  syscall.RawConn
}

// OpenMonitor opens one in the calling thread's namespace.
func OpenMonitor() (*Monitor, error) {
	c, err := dial(monitored...)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer),
		unix.SetNonblock(c.fd, true))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up rtnetlink events: %w", err), c.close())
	}
	m := &Monitor{c: c, file: os.NewFile(uintptr(c.fd), "rtnetlink events")}
	if m.raw, err = m.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, m.file.Close())
	}
	return m, nil
}

// Close ends Run.
func (m *Monitor) Close() error { return m.file.Close() }

// Run calls heed with each event until ctx ends or the Monitor is closed, which gives
// no error.
func (m *Monitor) Run(ctx context.Context, heed func(Event)) error {
	stop := context.AfterFunc(ctx, func() { _ = m.file.Close() })
	defer stop()
	for {
		packets, err := m.next()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			heed(Event{Kind: EventLost})
			continue
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("rtnetlink events: %w", err)
		}
		for _, p := range packets {
			if e, ok := parseEvent(p); ok {
				heed(e)
			}
		}
	}
}

func (m *Monitor) next() (packets []packet, err error) {
	failed := m.raw.Read(func(uintptr) bool {
		packets, err = m.c.receive()
		return !errors.Is(err, unix.EAGAIN)
	})
	if failed != nil {
		return nil, os.ErrClosed
	}
	return packets, err
}

// parseEvent reads a notice. Index is where struct ifinfomsg, ifaddrmsg and tcmsg have it.
func parseEvent(p packet) (Event, bool) {
	switch p.typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
		return Event{Kind: EventLink, Index: indexOf(p)}, true
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return Event{Kind: EventAddress, Index: indexOf(p)}, true
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, ok := parseRoute(p)
		return Event{Kind: EventRoute, Index: r.index, Route: r.dst}, ok
	case unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
		return Event{Kind: EventParameter}, true
	}
	return Event{}, false
}

func indexOf(p packet) int {
	if len(p.body) < 8 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(p.body[4:]))
}
