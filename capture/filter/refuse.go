package filter

// refusals are words of the language that are not understood, and what to use instead.
var refusals = func() map[string]string {
	out := map[string]string{
		"inbound":    "use --direction in",
		"outbound":   "use --direction out",
		"ifname":     "choose interfaces with -i",
		"on":         "choose interfaces with -i",
		"ifindex":    "choose interfaces with -i",
		"gateway":    "use ether host MAC and not host ADDRESS",
		"vlan":       "capture on the VLAN's own interface with -i, or read the file with tcpdump -r FILE vlan",
		"protochain": "use ip6 proto, or read the file with tcpdump -r FILE and this filter",
	}
	for _, w := range []string{"mpls", "pppoed", "pppoes", "geneve", "vxlan", "llc", "stp", "iso", "clnp", "esis", "isis", "ipx", "netbeui", "lat", "moprc", "mopdl", "decnet", "atalk", "aarp", "sca"} {
		out[w] = "use ether proto NUMBER, or read the file with tcpdump -r FILE and this filter"
	}
	for _, w := range []string{"fddi", "tr", "wlan", "ppp", "slip", "link", "type", "subtype", "dir", "addr1", "addr2", "addr3", "addr4", "ra", "ta", "lane", "oam", "oamf4", "vpi", "vci", "sio", "opc", "dpc", "sls", "rnr", "rulenum", "reason", "rset", "ruleset", "srnr", "subrulenum", "action"} {
		out[w] = "no interface of a container has this"
	}
	return out
}()
