package filter_test

import (
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/net/bpf"

	"github.com/fairlead/fairlead/capture/filter"
)

// expressions are compiled here and by tcpdump, and must choose the same packets.
var expressions = []string{
	"", "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "ah", "esp", "pim", "vrrp", "igrp",
	"host 10.0.0.1", "src host 10.0.0.1", "dst host 10.0.0.1", "src 10.0.0.1", "dst 10.0.0.2", "ip host 10.0.0.1", "arp host 10.0.0.2",
	"src or dst host 10.0.0.1", "src and dst host 10.0.0.1", "ip src 10.0.0.1", "rarp host 10.0.0.1",
	"host fd00::1", "src fd00::1", "ip6 host fd00::2", "dst host fd00::2", "net fd00::/16", "src net fd00::/100", "net fd00::/33", "net ::/0",
	"net 10.0.0.0/8", "net 10", "net 10.0", "net 10.0.0", "net 192.168.0.0/16", "src net 10.0.0.0/30", "dst net 10.0.0.0 mask 255.255.255.252", "net 0.0.0.0/0",
	"port 53", "tcp port 80", "udp port 53", "src port 80", "dst port 80", "src or dst port 80", "src and dst port 53", "tcp src port 80", "port 80 or 443",
	"tcp port 80 or 443", "tcp port (80 or 443)", "portrange 50-60", "udp portrange 53-53", "src portrange 1024-65535", "sctp port 5000", "port domain", "tcp dst port http",
	"ether host 02:00:00:00:00:01", "ether src 02:00:00:00:00:01", "ether dst 02:00:00:00:00:02", "ether broadcast", "ether multicast", "broadcast", "multicast",
	"ip multicast", "ip6 multicast", "ether proto 0x806", `ether proto \ip6`, "ether proto 0x88b5", "ip proto 6", `ip proto \udp`, "ip6 proto 58", `ip6 proto \tcp`, "proto 17", `proto \icmp`, `proto 50`,
	"less 60", "greater 100", "len > 80", "len = 42", "len - 14 <= 46",
	"not arp", "! ip", "not (tcp or udp)", "tcp and not port 80", "host 10.0.0.1 and (port 80 or port 53)", "tcp && port 80", "tcp || icmp", "not not ip",
	"ip or arp and host 10.0.0.2", "arp and host 10.0.0.2 or ip6", "not host 10.0.0.1 and 10.0.0.2", "((tcp))", "(tcp or udp) and (src 10.0.0.1 or dst 10.0.0.1)",
	"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[13] & 2 = 2", "tcp[13] == 0x12", "tcp[tcpflags] = tcp-syn", "tcp[0:2] = 80", "udp[4:2] > 20", "tcp[12] >> 4 = 5", "tcp[(tcp[12]>>2):2] = 0x4745",
	"icmp[icmptype] = icmp-echo", "icmp[0] = 8", "icmp6[icmp6type] = icmp6-neighborsolicit", "icmp6[0] = 135", "ip[8] < 64", "ip[6:2] & 0x1fff != 0", "ip[0] & 0xf > 5", "ip[2:2] = 40",
	"ip6[6] = 58", "ether[0] & 1 = 0", "ether[12:2] = 0x800", "arp[6:2] = 1", "ip[12:4] = 0x0a000001", "udp[8] = 1 or tcp", "igmp[0] = 0x16",
	"ip[2:2] - ((ip[0]&0xf)<<2) = 20", "1 = 1", "2 < 1", "ip[1] + 2 * 3 = 6", "(ip[9] = 6) or (ip[9] = 17)", "ip[9] * 2 = 12", "ip[9] % 5 = 1", "ip[9] / 3 = 2", "ip[9] ^ 6 = 0", "ip[9] | 1 = 7",
	"6 = ip[9]", "ip[9] = ip[9]", "ip[16:4] > ip[12:4]", "ip[20] != ip[22]", "ip[9] <= 6", "ip[9] >= 6", "-1 < ip[9]", "len >= 60 and tcp",
	"(tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0))",
	"ip host 10.0.0.1 and not (tcp[13] & 1 != 0)", "dst host 224.0.0.22", "ether dst 02:00:00:00:00:02 and ip",
}

// raw are for packets that begin with IP.
var raw = []string{"ip", "ip6", "tcp", "tcp port 80", "host 10.0.0.1", "host fd00::1", "arp", "icmp", "ip[0] & 0xf = 5", "tcp[13] & 2 != 0", "net 10.0.0.0/24 and udp port 53", "len > 40", "ip6[6] = 6", "portrange 50-60"}

func TestAsTCPDump(t *testing.T) {
	chosen := 0
	for link, texts := range map[filter.Link][]string{filter.Ethernet: expressions, filter.Raw: raw} {
		for _, text := range texts {
			t.Run(text, func(t *testing.T) {
				ours, theirs := machine(t, compile(t, text, link)), machine(t, tcpdump(t, text, link))
				for _, p := range packets(t) {
					data := p.data
					if link == filter.Raw {
						data = data[14:]
					}
					got, want := run(t, ours, data), run(t, theirs, data)
					if got != want {
						t.Errorf("%s: wanted %v, tcpdump %v", p.name, got, want)
					}
					if got {
						chosen++
					}
				}
			})
		}
	}
	if chosen < 500 {
		t.Errorf("all filters together chose %d packets only", chosen)
	}
}

func compile(t testing.TB, text string, link filter.Link) []bpf.RawInstruction {
	t.Helper()
	program, err := filter.Compile(text, filter.Options{Link: link, Keep: 96})
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// tcpdump compiles an expression with libpcap.
func tcpdump(t testing.TB, text string, link filter.Link) []bpf.RawInstruction {
	t.Helper()
	name := map[filter.Link]string{filter.Ethernet: "EN10MB", filter.Raw: "RAW"}[link]
	out, err := exec.Command("tcpdump", "-y", name, "-ddd", "--", text).CombinedOutput()
	if strings.Contains(string(out), "rejects all packets") {
		return []bpf.RawInstruction{{Op: 6}}
	}
	if err != nil {
		t.Fatalf("tcpdump: %v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for len(lines) > 0 && strings.Count(lines[0], " ") != 0 {
		lines = lines[1:] // warnings
	}
	var program []bpf.RawInstruction
	for _, line := range lines[1:] {
		var n [4]uint64
		for i, f := range strings.Fields(line) {
			if n[i], err = strconv.ParseUint(f, 10, 32); err != nil {
				t.Fatalf("tcpdump says %q", line)
			}
		}
		program = append(program, bpf.RawInstruction{Op: uint16(n[0]), Jt: uint8(n[1]), Jf: uint8(n[2]), K: uint32(n[3])})
	}
	return program
}

func machine(t testing.TB, program []bpf.RawInstruction) *bpf.VM {
	t.Helper()
	instructions, known := bpf.Disassemble(program)
	if !known {
		t.Fatalf("an instruction is not known: %v", program)
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func run(t testing.TB, vm *bpf.VM, data []byte) bool {
	t.Helper()
	n, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return n != 0
}

func TestNames(t *testing.T) {
	lookup := func(name string) []netip.Addr {
		if name == "web-1" {
			return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
		}
		return nil
	}
	for text, same := range map[string]string{
		"host web-1":         "host 10.0.0.1 or host fd00::1",
		"src web-1 and tcp":  "(src 10.0.0.1 or src fd00::1) and tcp",
		"ip6 host web-1":     "ip6 host fd00::1",
		"not web-1 or udp":   "not (host 10.0.0.1 or host fd00::1) or udp",
		"port 80 or web-1\n": "",
	} {
		program, err := filter.Compile(text, filter.Options{Keep: 96, Lookup: lookup})
		if same == "" {
			if !errdefs.IsInvalidArgument(err) { // a port of that name
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := machine(t, program), machine(t, compile(t, same, filter.Ethernet))
		for _, p := range packets(t) {
			if run(t, ours, p.data) != run(t, theirs, p.data) {
				t.Errorf("%q and %q: not the same for %s", text, same, p.name)
			}
		}
	}
}

// TestLong makes programs in which short jumps do not reach.
func TestLong(t *testing.T) {
	var hosts []string
	for i := range 60 {
		hosts = append(hosts, "host 10.1.1."+strconv.Itoa(i))
	}
	vm := machine(t, compile(t, strings.Join(hosts, " or ")+" or host 10.0.0.1", filter.Ethernet))
	one := machine(t, compile(t, "host 10.0.0.1", filter.Ethernet))
	for _, p := range packets(t) {
		if run(t, vm, p.data) != run(t, one, p.data) {
			t.Errorf("%s: not chosen as alone", p.name)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, part := range map[string]string{
		"vlan 7":                 `"vlan" is not understood here: capture on the VLAN's own interface`,
		"inbound":                "--direction in",
		"tcp and outbound":       "--direction out",
		"gateway web":            "ether host MAC",
		"ip protochain 6":        "ip6 proto",
		"host web":               `no container with an address is called "web"`,
		"port nonsense":          `"nonsense" is no port`,
		"port 70000":             "up to 65535",
		"host 10.0.0":            "net 10.0.0",
		"net 10.0.0.1/24":        "write 10.0.0.0/24",
		"net 10.0.0.0/40":        "the length of a prefix",
		"tcp host 10.0.0.1":      "has no hosts",
		"icmp port 80":           "has no ports",
		"host 02:00:00:00:00:01": "write ether host 02:00:00:00:00:01",
		"ether host web":         "no Ethernet address",
		"ip broadcast":           "dst host ADDRESS",
		"tcp and":                "it ends where",
		"tcp or or udp":          `"or"`,
		"(tcp":                   "a ) is missing",
		"tcp)":                   `")" is not expected`,
		"tcp udp":                `"udp" is not expected`,
		"ip[9] / 0 = 1":          "divided by 0",
		"ip[9] << 40 = 1":        "not shifted by 40",
		"ip[9:3] = 1":            "1, 2 or 4 bytes",
		"ip[9]":                  "a comparison",
		"nosuch[9] = 1":          `no protocol is called "nosuch"`,
		"tcp $ udp":              `"$" is not understood`,
		"src":                    "it ends where",
		"ether proto 100":        "a length",
		"less tcp":               "a number of bytes",
		strings.Repeat("(", 500): "nested deeper",
		strings.Repeat("not tcp and ", 1000) + "udp": "instructions",
	} {
		_, err := filter.Compile(text, filter.Options{Keep: 96})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), part) {
			t.Errorf("%.40q: %.200v, want %q in it", text, err, part)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("0:a:" + strings.Repeat("F", 16000) + ":0") // took its length squared, twice
	for _, text := range expressions {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		program, err := filter.Compile(text, filter.Options{Keep: 96})
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatal(err)
			}
			return
		}
		vm := machine(t, program)
		for _, p := range packets(t) {
			run(t, vm, p.data)
		}
	})
}
