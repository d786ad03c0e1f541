// Package netoption lists the driver options of networks and endpoints as people are told
// of them: in help, in completion, in errors, and in docs/OPTIONS.md. What they do is
// decided elsewhere (network/plan, engine); tests there hold this list against it.
package netoption

import (
	"fmt"
	"slices"
	"strings"
)

// Place is where an option may be given.
type Place uint8

// The places; an option may have several.
const (
	// Network is `network create -o`, compose's driver_opts of a network, and
	// `--default-network-opt bridge=` but for the bridge's name.
	Network Place = 1 << iota
	// Endpoint is driver-opt= of `--network` and `network connect --driver-opt`.
	Endpoint
)

// Option is one of them.
type Option struct {
	Key     string
	Places  Place
	Type    string // of its value, in words
	Default string
	What    string
	// Values are all that there are; none where there is no end of them.
	Values []string
}

var truth = []string{"true", "false"}

var modes = []string{"nat", "nat-unprotected", "routed", "isolated"}

// All are the options, those of networks first.
func All() []Option {
	const docker, bridge, own = "com.docker.network.", "com.docker.network.bridge.", "com.fairlead.network."
	return []Option{
		{bridge + "name", Network, "name of a link", "br-ID, of the network's ID", "what the bridge is called; not by default for all", nil},
		{docker + "driver.mtu", Network, "68 to 65535, 1280 with IPv6", "1500", "the MTU of the bridge and the links", nil},
		{bridge + "enable_ip_masquerade", Network, "true, false", "true", "what leaves the host has the host's address", truth},
		{bridge + "enable_icc", Network, "true, false", "true", "containers of the network reach each other", truth},
		{bridge + "host_binding_ipv4", Network, "IPv4 address", "every address of the host", "where ports are published that name no address", nil},
		{bridge + "inhibit_ipv4", Network, "true, false", "false", "the bridge gets no IPv4 address", truth},
		{bridge + "gateway_mode_ipv4", Network, strings.Join(modes, ", "), "nat", "how containers are reached, by IPv4; isolated on internal networks alone", modes},
		{bridge + "gateway_mode_ipv6", Network, strings.Join(modes, ", "), "nat", "the same, by IPv6", modes},
		{bridge + "trusted_host_interfaces", Network, "names of links, with : between", "none", "links from which containers' own addresses are reached", nil},
		{docker + "container_iface_prefix", Network, "at most 12 bytes", "eth", "what containers' links are called, before a number", nil},
		{docker + "host_ipv4", Network, "IPv4 address of the host", "that of the way out", "the address that what leaves the host has", nil},
		{docker + "host_ipv6", Network, "IPv6 address of the host", "that of the way out", "the same, of IPv6", nil},
		{docker + "enable_ipv4", Network, "true, false", "true", "containers have IPv4", truth},
		{docker + "enable_ipv6", Network, "true, false", "false", "containers have IPv6", truth},
		{own + "anti_spoofing", Network | Endpoint, "true, false", "true", "containers send as themselves alone", truth},
		{own + "limit_connections", Network, "true, false", "true", "a container fills a quarter of the host's table of connections at most", truth},
		{docker + "endpoint.ifname", Endpoint, "name of a link", "the network's prefix and a number", "what the link is called inside", nil},
		{docker + "endpoint.sysctls", Endpoint, "net.X.Y.IFNAME.Z=V, with , between", "none", "sysctls of the link; IFNAME stands for it, X is ipv4, ipv6 or mpls, Y conf or neigh", nil},
	}
}

// Of are those that may be given in the place.
func Of(p Place) []Option {
	return slices.DeleteFunc(All(), func(o Option) bool { return o.Places&p == 0 })
}

// Unknown says of a key that is none in the place which are like it, or how many there are.
func Unknown(key string, p Place) string {
	type ranked struct {
		key string
		far int
	}
	var list []ranked
	for _, o := range Of(p) {
		if far := distance(last(key), last(o.Key)); far <= max(3, len(last(o.Key))/3) {
			list = append(list, ranked{o.Key, far})
		}
	}
	slices.SortStableFunc(list, func(a, b ranked) int { return a.far - b.far })
	if len(list) == 0 {
		var all []string
		for _, o := range Of(p) {
			all = append(all, o.Key)
		}
		return "there are " + strings.Join(all, ", ")
	}
	var near []string
	for _, r := range list[:min(len(list), 3)] {
		near = append(near, r.key)
	}
	return "the nearest there are: " + strings.Join(near, ", ")
}

// last is what tells a key from others: what stands behind its last dot, in small letters
// and without separators.
func last(key string) string {
	key = key[strings.LastIndexByte(key, '.')+1:]
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(key))
}

// distance is how many letters are to be changed, put in or left out (Levenshtein).
func distance(a, b string) int {
	if len(a) > 100 {
		return len(a) // it is like none
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Lines are the options of a place, for help: their keys, and below each what it is.
func Lines(p Place) string {
	var b strings.Builder
	for _, o := range Of(p) {
		fmt.Fprintf(&b, "  %s\n      %s\n      %s (default: %s)\n", o.Key, o.What, o.Type, o.Default)
	}
	return b.String()
}

// Table is all of them as Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("| option | of | value | default | what it does |\n|---|---|---|---|---|\n")
	for _, o := range All() {
		where := []string{}
		if o.Places&Network != 0 {
			where = append(where, "networks")
		}
		if o.Places&Endpoint != 0 {
			where = append(where, "endpoints")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", o.Key, strings.Join(where, ", "), o.Type, o.Default, o.What)
	}
	return b.String()
}
