// Package files renders the three files that a container gets from the engine:
// /etc/hosts, /etc/hostname and /etc/resolv.conf.
//
// It turns values into text; where the text goes and when is the engine's affair.
package files

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/wellformed"
)

// localNames are the lines every hosts file begins with.
const (
	localNames4 = "127.0.0.1\tlocalhost\n"
	localNames6 = "::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n"
)

// Entry is a line of a hosts file.
type Entry struct {
	Addr  netip.Addr
	Names []string
}

// Hosts renders a hosts file: the local names, the user's entries, then the
// container's own addresses. Where IPv6 is off there are no lines of it but the
// user's.
func Hosts(ipv6 bool, extra, own []Entry) []byte {
	var b bytes.Buffer
	b.WriteString(localNames4)
	if ipv6 {
		b.WriteString(localNames6)
	} else {
		own = slices.DeleteFunc(slices.Clone(own), func(e Entry) bool { return e.Addr.Is6() })
	}
	appendEntries(&b, extra)
	appendEntries(&b, own)
	return b.Bytes()
}

// AppendHosts adds entries to a hosts file that is there: the host's own, for a
// container in the host's network.
func AppendHosts(file []byte, extra []Entry) []byte {
	b := bytes.NewBuffer(bytes.Clone(file))
	if n := b.Len(); n > 0 && b.Bytes()[n-1] != '\n' {
		b.WriteByte('\n')
	}
	appendEntries(b, extra)
	return b.Bytes()
}

// Merge makes of the file as it is now what its owner would have, had we written next
// in place of last: the lines that only last has go, those that only next has come.
func Merge(now, last, next []byte) []byte {
	before, after := lineSet(last), lineSet(next)
	var b bytes.Buffer
	present := make(map[string]bool)
	for line := range bytes.Lines(now) {
		text := strings.TrimSuffix(string(line), "\n")
		if before[text] && !after[text] {
			continue
		}
		present[text] = true
		b.WriteString(text + "\n")
	}
	for line := range bytes.Lines(next) {
		if text := strings.TrimSuffix(string(line), "\n"); !before[text] && !present[text] {
			b.WriteString(text + "\n")
		}
	}
	return b.Bytes()
}

func lineSet(file []byte) map[string]bool {
	set := make(map[string]bool)
	for line := range bytes.Lines(file) {
		set[strings.TrimSuffix(string(line), "\n")] = true
	}
	return set
}

func appendEntries(b *bytes.Buffer, entries []Entry) {
	for _, e := range entries {
		if len(e.Names) > 0 {
			fmt.Fprintf(b, "%s\t%s\n", e.Addr, strings.Join(e.Names, " "))
		}
	}
}

// HostGateway is the word for the host's own address in an extra host.
const HostGateway = "host-gateway"

// ParseExtraHost reads NAME:ADDRESS, as Docker's --add-host; the address may be
// in brackets, and host-gateway stands for each of gateways.
func ParseExtraHost(s string, gateways []netip.Addr) ([]Entry, error) {
	name, value, ok := strings.Cut(s, ":")
	if !ok || name == "" {
		return nil, fmt.Errorf("invalid extra host %q: want NAME:ADDRESS: %w", s, errdefs.ErrInvalidArgument)
	}
	if err := wellformed.HostName(name); err != nil {
		return nil, fmt.Errorf("invalid extra host: %w", err)
	}
	if value == HostGateway {
		if len(gateways) == 0 {
			return nil, fmt.Errorf("extra host %q: the host has no address on a default network: %w", s, errdefs.ErrInvalidArgument)
		}
		var out []Entry
		for _, g := range gateways {
			out = append(out, Entry{Addr: g, Names: []string{name}})
		}
		return out, nil
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(value, "["), "]"))
	if err != nil {
		return nil, fmt.Errorf("invalid IP address in extra host %q: %w: %w", s, err, errdefs.ErrInvalidArgument)
	}
	if err := wellformed.Addr(addr); err != nil {
		return nil, fmt.Errorf("invalid IP address in extra host %q: %w", s, err)
	}
	return []Entry{{Addr: addr, Names: []string{name}}}, nil
}
