package craft

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Wire is a link seen below IP: what is sent goes out as it is, and every frame that
// comes in is heard (packet(7)). It takes CAP_NET_RAW.
type Wire struct {
	file  *os.File
	index int
	// MAC is what frames are sent from: the link's own address, until it is changed.
	MAC net.HardwareAddr
}

// ears is how much may wait to be read, in bytes: the answers to a scan of all ports.
const ears = 64 << 20

// Open opens a link of the calling thread's network namespace, until Close.
func Open(dev string) (*Wire, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all&0xffff)
	if err != nil {
		return nil, fmt.Errorf("open %s for raw frames: %w", dev, err)
	}
	w := &Wire{file: os.NewFile(uintptr(fd), "packet:"+dev), index: i.Index, MAC: i.HardwareAddr}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, ears),
		// Not what goes out, by this wire or others (Linux 4.20).
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all & 0xffff, Ifindex: i.Index}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s for raw frames: %w", dev, err), w.Close())
	}
	return w, nil
}

// Close stops listening.
func (w *Wire) Close() error { return w.file.Close() }

// Send sends a packet to whoever has the hardware address.
func (w *Wire) Send(to net.HardwareAddr, p Packet) error {
	payload, err := p.Bytes()
	if err != nil {
		return err
	}
	if err := w.SendFrame(to, p.EtherType(), payload); err != nil {
		return fmt.Errorf("send %s: %w", p, err)
	}
	return nil
}

// SendFrame sends whatever it is given.
func (w *Wire) SendFrame(to net.HardwareAddr, etherType uint16, payload []byte) error {
	frame := append(append(append(make([]byte, 0, 14+len(payload)), to...), w.MAC...), byte(etherType>>8), byte(etherType))
	_, err := w.file.Write(append(frame, payload...))
	return err
}

// Listen calls heard with each frame that comes in, until heard says that it is
// enough, or the time is over.
func (w *Wire) Listen(until time.Time, heard func(frame []byte) (enough bool)) error {
	if err := w.file.SetReadDeadline(until); err != nil {
		return err
	}
	for buf := make([]byte, 64<<10); ; {
		n, err := w.file.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		case heard(buf[:n]):
			return nil
		}
	}
}
