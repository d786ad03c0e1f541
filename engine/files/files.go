// Package files renders the three files that a container gets from the engine:
// /etc/hosts, /etc/hostname and /etc/resolv.conf.
//
// It turns values into text; where the text goes and when is the engine's affair.
package files

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
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
// container's own addresses.
func Hosts(extra, own []Entry) []byte {
	var b bytes.Buffer
	b.WriteString(localNames4)
	b.WriteString(localNames6)
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
	if !ok || name == "" || strings.ContainsAny(name, " \t\n#") {
		return nil, fmt.Errorf("invalid extra host %q: want NAME:ADDRESS: %w", s, errdefs.ErrInvalidArgument)
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
	return []Entry{{Addr: addr, Names: []string{name}}}, nil
}

// Resolver is what the user said about names; empty fields leave the host's.
type Resolver struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// fallback servers where the host has none that a container can reach, as
// Docker's.
var fallback = []string{"8.8.8.8", "8.8.4.4"}

// ResolvConf renders a resolv.conf from the host's. Servers on a loopback
// address are the host's own and mean nothing in a container: they are left
// out. See resolv.conf(5).
func ResolvConf(host []byte, user Resolver) []byte {
	var servers, search, options []string
	lines := bufio.NewScanner(bytes.NewReader(host))
	for lines.Scan() {
		words := strings.Fields(strings.NewReplacer("#", " # ", ";", " ; ").Replace(lines.Text()))
		for i, w := range words {
			if w == "#" || w == ";" {
				words = words[:i]
				break
			}
		}
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(words[1]); err == nil && !addr.IsLoopback() {
				servers = append(servers, words[1])
			}
		case "search", "domain":
			search = words[1:]
		case "options":
			options = append(options, words[1:]...)
		}
	}
	if len(user.Servers) > 0 {
		servers = nil
		for _, s := range user.Servers {
			servers = append(servers, s.String())
		}
	}
	if len(servers) == 0 {
		servers = fallback
	}
	if len(user.Search) > 0 {
		search = user.Search
	}
	if len(user.Options) > 0 {
		options = user.Options
	}
	return render(servers, search, options)
}

func render(servers, search, options []string) []byte {
	var b bytes.Buffer
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	// A search list of one dot is how a user asks for none.
	if len(search) > 0 && (len(search) != 1 || search[0] != ".") {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes()
}
