package daemon

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/trace"
	seen "github.com/fairlead/fairlead/trace/picture"
)

// namePatience is how long a name server has to answer.
const namePatience = 2 * time.Second

// rootOf is the process's root file system; PID 0 is the daemon's own.
func rootOf(pid int) string {
	if pid == 0 {
		return ""
	}
	return fmt.Sprintf("/proc/%d/root", pid)
}

// nameservers are those of the container's /etc/resolv.conf.
func nameservers(pid int) (out []netip.Addr) {
	if pid == 0 {
		return nil
	}
	return readNameservers(pid)
}

func readNameservers(pid int) (out []netip.Addr) {
	lines(rootOf(pid)+"/etc/resolv.conf", func(fields []string) {
		if a, err := netip.ParseAddr(fields[len(fields)-1]); err == nil && len(fields) == 2 && fields[0] == "nameserver" {
			out = append(out, a)
		}
	})
	return out
}

func lines(path string, each func(fields []string)) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		text, _, _ := strings.Cut(s.Text(), "#")
		if fields := strings.Fields(text); len(fields) > 1 {
			each(fields)
		}
	}
}

// resolve looks the name up as FROM would: by its /etc/hosts, then by its name servers,
// asked from inside.
func resolve(ctx context.Context, p *seen.Picture, q trace.Question) (r seen.Resolution) {
	pid, path := 0, ""
	for _, c := range p.Containers {
		if names(c, q.From) && c.Namespace != nil {
			pid, path = c.PID, c.Namespace.Path
		}
	}
	lines(rootOf(pid)+"/etc/hosts", func(fields []string) {
		if a, err := netip.ParseAddr(fields[0]); err == nil && slices.Contains(fields[1:], q.To) {
			r.Addrs = append(r.Addrs, a)
		}
	})
	if len(r.Addrs) > 0 {
		return r
	}
	for _, server := range readNameservers(pid) {
		r.Asked = append(r.Asked, server)
		if !ask(ctx, path, server, q, &r) {
			r.Silent = append(r.Silent, server)
			continue
		}
		break
	}
	return r
}

// ask asks one server; false where it does not answer, or says that it cannot.
func ask(ctx context.Context, path string, server netip.Addr, q trace.Question, r *seen.Resolution) bool {
	var conn net.Conn
	dial := func() (err error) {
		// To an address: the socket is made by this goroutine, inside.
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 53)))
		return err
	}
	if path == "" {
		if dial() != nil {
			return false
		}
	} else {
		ns, err := netns.Open(path)
		if err != nil {
			return false
		}
		defer ns.Close()
		if netns.Do(ns, dial) != nil {
			return false
		}
	}
	defer conn.Close()
	kind := dns.TypeA
	if q.IPv6 {
		kind = dns.TypeAAAA
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(q.To), kind)
	client := dns.Client{Timeout: namePatience}
	answer, _, err := client.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
	if err != nil || answer.Rcode == dns.RcodeServerFailure || answer.Rcode == dns.RcodeRefused {
		return false
	}
	r.Unknown = answer.Rcode == dns.RcodeNameError
	for _, rr := range answer.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			if a, ok := netip.AddrFromSlice(rr.A.To4()); ok {
				r.Addrs = append(r.Addrs, a)
			}
		case *dns.AAAA:
			if a, ok := netip.AddrFromSlice(rr.AAAA); ok {
				r.Addrs = append(r.Addrs, a)
			}
		}
	}
	return true
}
