package e2e

import (
	"net/url"
	"strings"
)

// hostileWords are no name of anything: ways out of a directory, lines and commands
// for files and programs that a name might get into, what looks like another name, and
// too much of one.
var hostileWords = []string{
	"../x", "..", "a/../../b", "a\nb", "a\r\nb", "x\"; drop", "x}; flush ruleset; table inet x {", "$(reboot)", "`id`", "a\x00b",
	strings.Repeat("a", 300), "\u0430dmin", "a\u202eb", "a b", "-rf", "a;b", "a#b", "a\tb", "a\x1b[2Jb", "%2e%2e%2f", "a,b", "a'b", "a=b\nc",
}

// hostileAddresses are none of anything: everybody's, groups', and what only looks like
// an address.
var hostileAddresses = []string{
	"0.0.0.0/0", "::/0", "224.0.0.1", "ff02::1", "255.255.255.255", "fe80::1%eth0\n6.6.6.6 example.org", "fe80::1%a b", "1.2.3.4\n", "0x7f.1",
	"010.9.0.5", "localhost", "1.2.3.4.5", "$(reboot)", "1.2.3.4; drop", "\u0661.2.3.4",
}

// object is a JSON object.
type object = map[string]any

// field takes a word, in a request that is good but for it.
type field struct {
	name string
	// good is a word that it does take.
	good string
	ask  func(word string) (path string, body object)
	// hostile are further words that it does not take.
	hostile []string
	// free says that it takes most words, and not those in hostile.
	free bool
}

// freely is the field as one that takes most words.
func freely(f field) field {
	f.free = true
	return f
}

// ofContainer is one of a container of network A, whose request has the word somewhere.
func ofContainer(name, good string, put func(word string, config, host object), hostile ...string) field {
	return field{name, good, func(word string) (string, object) {
		config, host := object{"Image": "demo", "Cmd": []string{"true"}}, object{"NetworkMode": "A"}
		put(word, config, host)
		config["HostConfig"] = host
		return "/containers/create", config
	}, hostile, false}
}

// ofEndpoint is the same, in the settings of its endpoint.
func ofEndpoint(name, good string, put func(word string, settings object), hostile ...string) field {
	return ofContainer(name, good, func(word string, config, _ object) {
		settings := object{}
		put(word, settings)
		config["NetworkingConfig"] = object{"EndpointsConfig": object{"A": settings}}
	}, hostile...)
}

func ofNetwork(name, good string, put func(word string, body object), hostile ...string) field {
	return field{name, good, func(word string) (string, object) {
		body := object{"Name": "new", "EnableIPv6": true}
		put(word, body)
		return "/networks/create", body
	}, hostile, false}
}

func ofOption(key, good string) field {
	return ofNetwork(key, good, func(w string, b object) { b["Options"] = object{key: w} })
}

func ofQuery(name, good, path, key string, body object) field {
	return field{name, good, func(word string) (string, object) { return path + "?" + key + "=" + url.QueryEscape(word), body }, nil, false}
}

// wordFields take a name of something.
func wordFields() []field {
	plain := object{"Image": "demo", "Cmd": []string{"true"}}
	return []field{
		ofQuery("container name", "good", "/containers/create", "name", plain),
		ofQuery("platform", "linux", "/containers/create", "platform", plain),
		ofContainer("image", "demo", func(w string, c, _ object) { c["Image"] = w }),
		ofContainer("host name", "good", func(w string, c, _ object) { c["Hostname"] = w }),
		ofContainer("domain name", "good.example", func(w string, c, _ object) { c["Domainname"] = w }),
		ofContainer("stop signal", "SIGTERM", func(w string, c, _ object) { c["StopSignal"] = w }),
		ofContainer("extra host", "good", func(w string, _, h object) { h["ExtraHosts"] = []string{w + ":192.0.2.9"} }),
		ofContainer("search domain", "good.example", func(w string, _, h object) { h["DnsSearch"] = []string{w} }),
		ofContainer("resolver option", "rotate", func(w string, _, h object) { h["DnsOptions"] = []string{w} }),
		ofContainer("network", "A", func(w string, _, h object) { h["NetworkMode"] = w }),
		ofContainer("sysctl", "default", func(w string, _, h object) { h["Sysctls"] = object{"net.ipv4.conf." + w + ".rp_filter": "0"} }, "../../kernel/x"),
		freely(ofContainer("sysctl value", "1", func(w string, _, h object) { h["Sysctls"] = object{"net.ipv4.conf.all.log_martians": w} },
			"1\n0", "1\r", "1\x00", "$(reboot)", "1\"; drop", "1; drop", "\u0661")),
		ofContainer("log option", "max-file", func(w string, _, h object) {
			h["LogConfig"] = object{"Type": "json-file", "Config": object{w: "2", "max-size": "1m"}}
		}),
		ofContainer("log driver", "local", func(w string, _, h object) { h["LogConfig"] = object{"Type": w} }),
		ofContainer("capability", "CHOWN", func(w string, _, h object) { h["CapAdd"] = []string{w} }),
		ofContainer("restart policy", "always", func(w string, _, h object) { h["RestartPolicy"] = object{"Name": w} }),
		ofContainer("volume of a bind", "good", func(w string, _, h object) { h["Binds"] = []string{w + ":/x"} }),
		ofContainer("port", "80/tcp", func(w string, _, h object) { h["PortBindings"] = object{w: []object{{"HostPort": "1024"}}} }, "80/icmp", "0", "65536", "-1", "80-79"),
		ofContainer("host port", "1024", func(w string, _, h object) { h["PortBindings"] = object{"80/tcp": []object{{"HostPort": w}}} }, "65536", "-1", "90-80"),
		freely(ofContainer("user", "good", func(w string, c, _ object) { c["User"] = w }, "a\nb", "a\rb", "a\x00b", "a\x1b[2Jb")),
		ofEndpoint("alias", "good", func(w string, s object) { s["Aliases"] = []string{w} }),
		ofEndpoint("link", "good", func(w string, s object) { s["Links"] = []string{"a2:" + w} }),
		ofEndpoint("interface", "good0", func(w string, s object) { s["DriverOpts"] = object{"com.docker.network.endpoint.ifname": w} }, "lo", "all"),
		ofEndpoint("endpoint's sysctl", "log_martians", func(w string, s object) {
			s["DriverOpts"] = object{"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME." + w + "=1"}
		}),
		freely(ofEndpoint("endpoint's sysctl value", "1", func(w string, s object) {
			s["DriverOpts"] = object{"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=" + w}
		}, "", "1\n0", "1\r", "1\x00", "$(reboot)", "1\"; drop", "1; drop", "\u0661")),
		ofEndpoint("endpoint's option", "com.docker.network.endpoint.ifname", func(w string, s object) { s["DriverOpts"] = object{w: "good1"} }),
		ofEndpoint("MAC address", "02:42:0a:65:00:63", func(w string, s object) { s["MacAddress"] = w }, "02:42:0a:65:00:63\n"),
		ofNetwork("network name", "good", func(w string, b object) { b["Name"] = w }, "host", "bridge"),
		ofNetwork("network driver", "bridge", func(w string, b object) { b["Driver"] = w }),
		ofNetwork("network option", "com.docker.network.driver.mtu", func(w string, b object) { b["Options"] = object{w: "1400"} }),
		ofNetwork("network scope", "local", func(w string, b object) { b["Scope"] = w }),
		ofOption("com.docker.network.bridge.name", "good0"),
		ofOption("com.docker.network.container_iface_prefix", "good"),
		ofOption("com.docker.network.bridge.gateway_mode_ipv4", "nat"),
		ofOption("com.docker.network.bridge.trusted_host_interfaces", "uplink"),
		ofOption("com.docker.network.driver.mtu", "1400"),
		ofOption("com.docker.network.bridge.enable_icc", "false"),
		{"volume name", "good", func(w string) (string, object) { return "/volumes/create", object{"Name": w} }, nil, false},
		{"volume option", "type", func(w string) (string, object) {
			return "/volumes/create", object{"Name": "good", "DriverOpts": object{w: "tmpfs", "device": "tmpfs"}}
		}, nil, false},
	}
}

// addressFields take an address, or a subnet. Each has those besides that would be the
// host's own, or its bridge's.
func addressFields() []field {
	ipam := func(key string, v func(word string) any) func(string, object) {
		return func(w string, b object) {
			config := object{"Subnet": "10.177.0.0/24"}
			config[key] = v(w)
			b["IPAM"] = object{"Config": []object{config}}
		}
	}
	same := func(w string) any { return w }
	return []field{
		ofNetwork("subnet", "10.177.0.0/24", ipam("Subnet", same), "127.0.0.0/8", "127.9.0.0/24", "::1/128", "224.0.0.0/8", "ff05::/64", "fe80::/64",
			"192.0.2.0/24", "10.101.0.0/16", "10.177.0.1", "10.177.0.0/33", "0.0.0.0/8"),
		ofNetwork("gateway", "10.177.0.9", ipam("Gateway", same), "127.0.0.1", "10.178.0.1", "10.177.0.0", "10.177.0.255", "::1"),
		ofNetwork("range", "10.177.0.128/25", ipam("IPRange", same), "10.0.0.0/8", "127.0.0.0/8", "10.177.0.1"),
		ofNetwork("auxiliary address", "10.177.0.9", ipam("AuxiliaryAddresses", func(w string) any { return object{"a": w} }), "127.0.0.1", "10.177.0.255"),
		ofOption("com.docker.network.host_ipv4", host4),
		ofOption("com.docker.network.bridge.host_binding_ipv4", host4),
		ofEndpoint("IPv4 address", "10.101.0.77", func(w string, s object) { s["IPAMConfig"] = object{"IPv4Address": w} },
			"127.0.0.1", host4, "10.102.0.9", "fd00:a::77", "0.0.0.0"),
		ofEndpoint("IPv6 address", "fd00:a::77", func(w string, s object) { s["IPAMConfig"] = object{"IPv6Address": w} },
			"::1", host6, "fd00:b::9", "10.101.0.77", "::", "::ffff:10.101.0.9", "fe80::1"),
		ofEndpoint("link-local address", "169.254.7.7", func(w string, s object) { s["IPAMConfig"] = object{"LinkLocalIPs": []string{w}} }, "127.0.0.1", host4, "::"),
		ofContainer("host IP", host4, func(w string, _, h object) {
			h["PortBindings"] = object{"80/tcp": []object{{"HostIp": w, "HostPort": "1024"}}}
		}),
		ofContainer("name server", "192.0.2.53", func(w string, _, h object) { h["Dns"] = []string{w} }, "0.0.0.0", "127.0.0.11"),
		freely(ofContainer("extra host's address", "192.0.2.9", func(w string, _, h object) { h["ExtraHosts"] = []string{"x:" + w} },
			"fe80::1%eth0\n6.6.6.6 example.org", "1.2.3.4\n", "0.0.0.0/0", "$(reboot)", "1.2.3.4 y", "\u0661.2.3.4")),
	}
}
