package e2e

// linksAndAddresses are of links, bridges, addresses and neighbours.
var linksAndAddresses = []fault{
	{name: "the host's end of the veth pair down", plant: "ip link set VETH down", ask: "db web:80", code: "veth-down", mend: "ip link set VETH up"},
	{name: "the veth off its bridge", plant: "ip link set VETH nomaster", ask: "outside web:80", code: "veth-off-bridge", mend: "ip link set VETH master BRIDGE"},
	{
		name: "the container's interface renamed", plant: "lone: ip link set eth0 down; ip link set eth0 name lan0; ip link set lan0 up", ask: "lone 192.0.2.2",
		code: "interface-renamed", mend: "ip link set lan0 down && ip link set lan0 name eth0 && ip link set eth0 up && ip addr replace LONEADDR dev eth0 && ip route replace default via LONEGATE dev eth0", says: []string{"is called lan0 now"},
	},
	{name: "the container's interface down", plant: "lone: ip link set eth0 down", ask: "lone 192.0.2.2", code: "link-down", mend: "ip link set eth0 up && ip route replace default via LONEGATE dev eth0", says: []string{"container lone"}},
	{name: "the bridge down", plant: "ip link set BRIDGE down", ask: "db 192.0.2.2", code: "bridge-down", mend: "ip link set BRIDGE up && ip addr add fd00:30::1/64 dev BRIDGE nodad"},
	{name: "wrong gateway, which nobody has", plant: "db: ip route replace default via 10.30.0.250", ask: "db 192.0.2.2", code: "wrong-gateway", mend: "ip route replace default via 10.30.0.1 dev eth0", says: []string{"10.30.0.250"}},
	{name: "wrong gateway of a more specific route", plant: "db: ip route add 192.0.2.0/24 via 10.30.0.77", ask: "db 192.0.2.2", code: "wrong-gateway", mend: "ip route del 192.0.2.0/24 via 10.30.0.77 dev eth0", says: []string{"route 192.0.2.0/24 via 10.30.0.77"}},
	{name: "wrong gateway, another container", plant: "far: sysctl -qw net.ipv4.ip_forward=0\ndb: ip route replace default via 10.30.0.200", ask: "db 192.0.2.2", code: "wrong-gateway", mend: "ip route replace default via 10.30.0.1 dev eth0", says: []string{"10.30.0.200"}},
	{
		name: "wrong prefix", plant: "db: ip addr add 10.30.0.3/29 dev eth0; ip addr del 10.30.0.3/24 dev eth0; ip route replace default via 10.30.0.1",
		ask: "db far", code: "wrong-prefix", mend: "ip addr add 10.30.0.3/24 dev eth0 && ip addr del 10.30.0.3/29 dev eth0", says: []string{"10.30.0.3/29"},
	},
	{
		name: "duplicate address, of two containers", plant: "db: ip addr add 10.30.0.200/24 dev eth0",
		ask: "web far", code: "duplicate-address", mend: "ip addr del 10.30.0.200/24 dev eth0", says: []string{"container far", "container db"},
	},
	{name: "duplicate address, of the host", plant: "ip addr add 10.30.0.2/32 dev lo", ask: "outside web:80", code: "duplicate-address", mend: "ip addr del 10.30.0.2/32 dev lo", says: []string{"the host"}},
	{name: "MTU black hole", plant: "ip link set VETH mtu 1280", ask: "db web:80", code: "mtu-black-hole", mend: "ip link set VETH mtu 1500", says: []string{"1280"}},
	{name: "a permanent neighbour entry is wrong", plant: "ip neigh replace 10.30.0.2 lladdr 02:00:00:00:00:99 dev BRIDGE nud permanent", ask: "outside web:80", code: "wrong-neighbour", mend: "ip neigh del 10.30.0.2 dev BRIDGE", says: []string{"02:00:00:00:00:99"}},
	{name: "another hardware address than the container's", plant: "db: ip link set eth0 address 02:00:00:00:00:66", ask: "db 192.0.2.2", code: "guard", mend: "ip link set eth0 address DBMAC", says: []string{"02:00:00:00:00:66"}},
	{
		name: "another address than the container's", plant: "db: ip addr add 10.30.0.99/24 dev eth0; ip route replace default via 10.30.0.1 src 10.30.0.99",
		ask: "db 192.0.2.2", code: "guard", mend: "ip addr del 10.30.0.99/24 dev eth0 && ip route replace default via 10.30.0.1 dev eth0",
	},
	{name: "pings ignored", plant: "web: sysctl -qw net.ipv4.icmp_echo_ignore_all=1", ask: "db web", code: "echo-ignored", mend: "sysctl -w net.ipv4.icmp_echo_ignore_all=0", says: []string{"container web"}},
	{name: "ports of the bridge isolated", plant: "bridge link set dev VETH isolated on; bridge link set dev DBVETH isolated on", tidy: "bridge link set dev DBVETH isolated off; bridge link set dev VETH isolated off", ask: "db web:80", code: "ports-isolated", mend: "bridge link set dev DBVETH isolated off"},
	{name: "a port of the bridge blocked", plant: "bridge link set dev VETH state 0", ask: "db web:80", code: "port-blocked", mend: "bridge link set dev VETH state 3"},
	{name: "the bridge without its address", plant: "ip addr del 10.30.0.1/24 dev BRIDGE", ask: "db 192.0.2.2", code: "bridge-address-missing", mend: "ip addr add 10.30.0.1/24 dev BRIDGE"},
	{name: "the host without its route to the network", plant: "ip route del 10.30.0.0/24 dev BRIDGE", ask: "outside web:80", code: "no-route", mend: "ip route add 10.30.0.0/24 dev BRIDGE"},
	{name: "the uplink down", plant: "ip link set uplink down", tidy: "for a in 2001:db8::1 2001:db8::11; do ip addr add $a/64 dev uplink nodad; done", ask: "db 192.0.2.2", code: "uplink-down", mend: "ip link set uplink up"},
	{name: "the uplink without a carrier", plant: "outside: ip link set eth0 down", undo: "outside: ip link set eth0 up", ask: "db 192.0.2.2", code: "uplink-no-carrier", mend: "ip -s link show dev uplink"},
	{name: "the container without its address", plant: "far: ip addr del 10.30.0.200/24 dev eth0", ask: "db far", code: "address-missing", mend: "ip addr add 10.30.0.200/24 dev eth0 && ip route replace default via 10.30.0.1 dev eth0"},
	{name: "IPv6 off in the container", plant: "six: sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1", ask: "-6 six fd00:30::1", code: "ipv6-disabled", mend: "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0 && ip addr add SIXADDR/64 dev eth0 nodad && ip -6 route replace default via fd00:30::1 dev eth0", says: []string{"container six"}},
}

// connections are of what is tracked, and of processes.
var connections = []fault{
	{
		name: "stale conntrack", plant: "conntrack -I -p udp -s 192.0.2.2 -d 192.0.2.1 --sport 5555 --dport 9090 --reply-src 10.30.0.77 --reply-dst 192.0.2.2 --reply-port-src 9090 --reply-port-dst 5555 -t 120",
		ask: "outside 192.0.2.1:9090/udp", code: "stale-conntrack", mend: "conntrack -D -p udp -s 192.0.2.2 --sport 5555 -d 192.0.2.1 --dport 9090", says: []string{"10.30.0.77"},
	},
	{
		name: "the program is stopped", plant: "exec web httpd -p 84; kill -STOP $(pidof httpd)",
		ask: "six web:84", code: "process-stopped", mend: "kill -CONT N", says: []string{"httpd"},
	},
	{name: "conntrack full", plantBy: fillTracking, undo: "conntrack -F", ask: "db 192.0.2.2:443", code: "conntrack-full", mend: "sysctl -w net.netfilter.nf_conntrack_max=N"},
}

// lastFaults take away what nothing brings back but healing, which goes on at the end.
var lastFaults = []fault{
	{name: "the veth pair gone", plant: "ip link del SECONDVETH", undo: "true", ask: "second 192.0.2.2", code: "veth-gone", mend: "fairlead heal resume", says: []string{"container second"}},
	{name: "healing paused", plant: "ip link del BRIDGE", ask: "db web:80", code: "bridge-gone", mend: "fairlead heal resume", says: []string{"Healing is paused"}},
}
