package files

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/internal/wellformed"
)

// Resolver is what the user said about names; empty fields leave the host's.
type Resolver struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// fallback servers where the host has none that a container can reach, as
// Docker's.
var fallback = []netip.Addr{netip.AddrFrom4([4]byte{8, 8, 8, 8}), netip.AddrFrom4([4]byte{8, 8, 4, 4})}

// ResolvConf renders a resolv.conf from the host's, for a container that asks the
// servers itself. Servers on a loopback address are the host's own and mean nothing
// in a container: they are left out, as are those that it has no IPv6 for, and those
// on one of the host's links (there a container would ask its neighbours); where the
// only one is systemd-resolved's, those that it asks itself, in uplinks, take its
// place. See resolv.conf(5).
func ResolvConf(host, uplinks []byte, user Resolver, ipv6 bool) []byte {
	c := dns.ParseHostConfig(host)
	if c.Stub() {
		c.Servers = dns.ParseHostConfig(uplinks).Servers
	}
	servers := slices.DeleteFunc(c.Servers, func(a netip.Addr) bool {
		return a.IsLoopback() || (a.Is6() && (!ipv6 || a.IsLinkLocalUnicast()))
	})
	if len(user.Servers) > 0 {
		servers = user.Servers
	}
	if len(servers) == 0 {
		servers = fallback
	}
	search, options := user.over(c)
	return render(servers, search, options)
}

// OwnResolvConf renders the resolv.conf of a container that has a resolver of ours,
// which asks the servers for it. Names are given to it as they are, for those of
// containers have no dots. Where they are not, for ndots is more than that, our own
// domain is searched first: a domain of the host's that has the same name must not
// take a container's place.
func OwnResolvConf(host []byte, user Resolver) []byte {
	search, options := user.over(dns.ParseHostConfig(host))
	if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		options = append(slices.Clone(options), "ndots:0")
	}
	if ndots(options) {
		own := []string{dns.Domain}
		if !noSearch(search) {
			own = append(own, slices.DeleteFunc(slices.Clone(search), func(d string) bool { return d == dns.Domain })...)
		}
		search = own
	}
	return render([]netip.Addr{dns.Address.Addr()}, search, options)
}

// ndots says that names with few dots are searched for before they are asked for as
// they are. Of several options the last counts; what is no number is taken for one.
func ndots(options []string) (searched bool) {
	for _, o := range options {
		if n, ok := strings.CutPrefix(o, "ndots:"); ok {
			v, err := strconv.Atoi(n)
			searched = err != nil || v > 0
		}
	}
	return searched
}

// noSearch says that there is no search list: one of one dot is how a user asks for
// none.
func noSearch(search []string) bool {
	return len(search) == 0 || (len(search) == 1 && search[0] == ".")
}

// over is the user's search list and options, or else the host's.
func (r Resolver) over(host dns.HostConfig) (search, options []string) {
	search, options = host.Search, host.Options
	if len(r.Search) > 0 {
		search = r.Search
	}
	if len(r.Options) > 0 {
		options = r.Options
	}
	return search, options
}

func render(servers []netip.Addr, search, options []string) []byte {
	var b bytes.Buffer
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if !noSearch(search) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes()
}

// CheckServer refuses what cannot be asked for names.
func CheckServer(a netip.Addr) error {
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is not the address of a name server: %w", a, errdefs.ErrInvalidArgument)
	case a.Unmap() == dns.Address.Addr():
		return fmt.Errorf("%s is where every container finds its resolver, which cannot ask itself: %w", a, errdefs.ErrInvalidArgument)
	}
	return wellformed.Addr(a)
}

// option is a word, or a word and its value.
var option = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}(:[A-Za-z0-9_-]{0,31})?$`)

// CheckOption refuses what is not one option of resolv.conf(5).
func CheckOption(o string) error {
	if !option.MatchString(o) {
		return fmt.Errorf("%q is not one option of resolv.conf(5): %w", o, errdefs.ErrInvalidArgument)
	}
	if n, ok := strings.CutPrefix(o, "ndots:"); ok {
		if v, err := strconv.Atoi(n); err != nil || v < 0 {
			return fmt.Errorf("invalid number for ndots option: %q: %w", n, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// CheckSearch refuses what is no domain; a dot asks for no search list.
func CheckSearch(domain string) error {
	if domain == "." {
		return nil
	}
	if err := wellformed.HostName(domain); err != nil {
		return fmt.Errorf("%q is not a domain: %w", domain, err)
	}
	return nil
}

// Check refuses what the user said where it cannot be.
func (r Resolver) Check() error {
	for _, a := range r.Servers {
		if err := CheckServer(a); err != nil {
			return fmt.Errorf("invalid DNS server: %w", err)
		}
	}
	for _, o := range r.Options {
		if err := CheckOption(o); err != nil {
			return fmt.Errorf("invalid DNS option: %w", err)
		}
	}
	for _, d := range r.Search {
		if err := CheckSearch(d); err != nil {
			return fmt.Errorf("invalid DNS search domain: %w", err)
		}
	}
	return nil
}
