package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// EtherTypeTest is one of those that IEEE 802 leaves to experiments: no protocol of a
// kernel's answers it.
const EtherTypeTest = 0x88b5

// Frames is an ear on a link: it hears every Ethernet frame that comes in there,
// whatever protocol it is of.
type Frames struct {
	host *Host
	dev  string
	file *os.File
}

// packetSocket opens an AF_PACKET socket on a link of the host (packet(7)).
func (h *Host) packetSocket(dev string, protocol uint16) (file *os.File, index int, err error) {
	err = h.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		// The protocol is in network byte order, which the field's type does not say.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(swap16(protocol)))
		if err != nil {
			return err
		}
		file, index = os.NewFile(uintptr(fd), "packet:"+dev), i.Index
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap16(protocol), Ifindex: i.Index})
	})
	if err != nil && file != nil {
		err = errors.Join(err, file.Close())
	}
	return file, index, err
}

func swap16(v uint16) uint16 { return v<<8 | v>>8 }

// Frames listens on a link of the host until Close.
func (h *Host) Frames(dev string) *Frames {
	h.lab.t.Helper()
	file, _, err := h.packetSocket(dev, unix.ETH_P_ALL)
	if err != nil {
		h.lab.t.Fatalf("listen for frames on %s of %s: %v", dev, h.name, err)
	}
	return &Frames{host: h, dev: dev, file: file}
}

// Missing waits for frames with each of the texts in them, and returns the texts of
// those that have not come in before the time is over.
func (f *Frames) Missing(texts []string, within time.Duration) []string {
	f.host.lab.t.Helper()
	if err := f.file.SetReadDeadline(time.Now().Add(within)); err != nil {
		f.host.lab.t.Fatalf("frames on %s of %s: %v", f.dev, f.host.name, err)
	}
	texts = slices.Clone(texts)
	buf := make([]byte, 64<<10)
	for len(texts) > 0 {
		n, err := f.file.Read(buf)
		if err != nil {
			break
		}
		texts = slices.DeleteFunc(texts, func(text string) bool { return bytes.Contains(buf[:n], []byte(text)) })
	}
	return texts
}

// Close stops listening.
func (f *Frames) Close() { _ = f.file.Close() }

// SendFrame sends an Ethernet frame out of a link of the host: past its IP stack, its
// neighbour table and its routes.
func (h *Host) SendFrame(dev string, to net.HardwareAddr, etherType uint16, payload []byte) {
	h.lab.t.Helper()
	file, index, err := h.packetSocket(dev, 0)
	if err != nil {
		h.lab.t.Fatalf("send a frame out of %s of %s: %v", dev, h.name, err)
	}
	defer file.Close()
	var own net.HardwareAddr
	err = h.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err == nil {
			own = i.HardwareAddr
		}
		return err
	})
	frame := append(append(append([]byte{}, to...), own...), byte(etherType>>8), byte(etherType))
	frame = append(frame, payload...)
	if short := 60 - len(frame); short > 0 { // the least that Ethernet has, without its checksum
		frame = append(frame, make([]byte, short)...)
	}
	if err == nil {
		err = rawSend(file, frame, index)
	}
	if err != nil {
		h.lab.t.Fatalf("send a frame out of %s of %s: %v", dev, h.name, err)
	}
}

func rawSend(file *os.File, frame []byte, index int) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = conn.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
		return !errors.Is(sent, unix.EAGAIN)
	})
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("sendto: %w", err)
	}
	return nil
}
