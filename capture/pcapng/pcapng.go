// Package pcapng writes and reads captures in the form that Wireshark and tcpdump read:
// the blocks of it that a live capture has, and no others.
//
// The form is draft-ietf-opsawg-pcapng, version 1.0; numbers are little-endian, times
// nanoseconds. Unlike the writer of github.com/gopacket/gopacket/pcapgo this one says
// which way a packet went, and gives names for addresses.
package pcapng

import (
	"net/netip"
	"time"
)

// Section describes the whole capture.
type Section struct {
	// OS and Application are what it was made with.
	OS, Application string
	Comment         string
}

// Interface describes one interface; the first of a section is number 0.
type Interface struct {
	Name string
	// Description tells people what it is.
	Description string
	Comment     string
	// Filter is the expression by which packets were chosen.
	Filter string
	// LinkType is what packets begin with: LinkEthernet, LinkRaw.
	LinkType uint16
	// SnapLen is how many bytes of a packet there are at most.
	SnapLen uint32
}

// What packets begin with (https://www.tcpdump.org/linktypes.html).
const (
	LinkEthernet uint16 = 1
	LinkRaw      uint16 = 101
)

// Direction says which way a packet went, as the interface saw it.
type Direction uint8

// What is known of it.
const (
	Unknown Direction = iota
	Inbound
	Outbound
)

// Reception says whom a packet was for.
type Reception uint8

// What is known of it. Promiscuous is a packet for somebody else.
const (
	Unspecified Reception = iota
	Unicast
	Multicast
	Broadcast
	Promiscuous
)

// Packet is one packet.
type Packet struct {
	Interface int
	Time      time.Time
	Direction Direction
	Reception Reception
	Data      []byte
	// Length is how long it was, in bytes; Data may be less.
	Length int
}

// Name is what an address is called.
type Name struct {
	Address netip.Addr
	Name    string
}

// Statistics tells of one interface from the capture's start.
type Statistics struct {
	Interface int
	Time      time.Time
	// Received is how many packets were wanted, Dropped how many of them were lost for want
	// of room, Delivered how many are in the capture.
	Received, Dropped, Delivered uint64
	Comment                      string
}

// Block types and options.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockNames      = 4
	blockStatistics = 5
	blockPacket     = 6

	byteOrder = 0x1a2b3c4d

	optComment = 1

	optSectionOS          = 3
	optSectionApplication = 4

	optInterfaceName        = 2
	optInterfaceDescription = 3
	optInterfaceResolution  = 9
	optInterfaceFilter      = 11

	optStatisticsReceived  = 4
	optStatisticsDropped   = 5
	optStatisticsDelivered = 8

	optPacketFlags = 2

	recordIPv4 = 1
	recordIPv6 = 2

	nanoseconds = 9 // 10^-9 s
)
