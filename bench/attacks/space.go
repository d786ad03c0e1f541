package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/kernel/netns"
)

// space is a network namespace: a machine's, or a container's.
type space struct{ name, path string }

// do runs f in the namespace.
func (s space) do(f func() error) error {
	ns, err := netns.Open(s.path)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return errors.Join(netns.Do(ns, f), ns.Close())
}

// sh runs a shell command in the namespace.
func (s space) sh(command string) (string, error) {
	out, err := exec.Command("nsenter", "--net="+s.path, "--", "sh", "-c", command).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("on %s: %s: %w: %s", s.name, command, err, out)
	}
	return string(out), nil
}

// serve answers connections and datagrams at an address and port with whom it sees,
// until the process ends.
func (s space) serve(address string) error {
	return s.do(func() error {
		host, _, err := net.SplitHostPort(address)
		family := "4"
		if err == nil && netip.MustParseAddr(host).Is6() {
			family = "6"
		}
		l, err := net.Listen("tcp"+family, address)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, s.name+" "+c.RemoteAddr().String())
				_ = c.Close()
			}
		}()
		p, err := net.ListenPacket("udp"+family, address)
		if err != nil {
			return err
		}
		go func() {
			for buf := make([]byte, 2000); ; {
				_, peer, err := p.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = p.WriteTo([]byte(s.name+" "+peer.String()), peer)
			}
		}()
		return nil
	})
}

// What became of an attempt.
const (
	reached = "reached"
	refused = "refused"
	dropped = "dropped"
)

// silence is how long no answer counts as none.
const silence = 1500 * time.Millisecond

// ask asks who serves an address and port, and says what became of it; an answer is
// the server's name and whom it saw.
func (s space) ask(proto, address string) (answer, outcome string) {
	buf := make([]byte, 200)
	n := 0
	err := s.do(func() error {
		c, err := net.DialTimeout(proto, address, silence)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(silence))
		if proto == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
		}
		n, err = c.Read(buf)
		return err
	})
	switch {
	case err == nil:
		return string(buf[:n]), reached
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		return "", refused
	}
	return "", dropped
}

// must asks until somebody answers: the control of an attack.
func (s space) must(proto, address string) (answer string, err error) {
	err = until(10*time.Second, func() error {
		var outcome string
		if answer, outcome = s.ask(proto, address); outcome != reached {
			return fmt.Errorf("%s does not reach %s/%s (%s)", s.name, address, proto, outcome)
		}
		return nil
	})
	return answer, err
}

// ping says whether an address answers an echo request.
func (s space) ping(addr string) string {
	if _, err := s.sh("ping -n -c1 -W1.5 " + addr); err != nil {
		return dropped
	}
	return reached
}

// wire opens a link of the namespace below IP.
func (s space) wire(dev string) (w *craft.Wire, err error) {
	err = s.do(func() error { w, err = craft.Open(dev); return err })
	return w, err
}

// mac is the hardware address of the link that has the address.
func (s space) mac(addr string) (mac net.HardwareAddr, err error) {
	err = s.do(func() error {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, l := range links {
			addrs, err := l.Addrs()
			if err != nil {
				return err
			}
			for _, a := range addrs {
				if strings.HasPrefix(a.String(), addr+"/") {
					mac = l.HardwareAddr
				}
			}
		}
		if mac == nil {
			return fmt.Errorf("no link of %s has %s", s.name, addr)
		}
		return nil
	})
	return mac, err
}

// heard says which of the texts come in by a link while f is run and for some time
// after.
func (s space) heard(dev string, texts []string, f func() error) (map[string]bool, error) {
	w, err := s.wire(dev)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if err := f(); err != nil {
		return nil, err
	}
	out := make(map[string]bool)
	err = w.Listen(time.Now().Add(silence), func(frame []byte) bool {
		for _, text := range texts {
			if bytes.Contains(frame, []byte(text)) {
				out[text] = true
			}
		}
		return len(out) == len(texts)
	})
	return out, err
}
