package doctor

import (
	"fmt"
	"slices"
	"strings"
)

func (h Host) firewalls(f *findings) {
	if h.Firewalld {
		f.add(Note, "firewall", "firewalld runs: Fairlead's bridges are in its zone fairlead", "firewall-cmd --info-zone=fairlead")
	}
	if h.UFW {
		f.add(Note, "firewall", "ufw is on: published ports are forwarded and do not pass its INPUT rules; the host's own services, for containers too, do", "ufw status verbose")
	}
	if h.Legacy && h.NFTables {
		f.add(Warning, "firewall", "rules of iptables-legacy and of nf_tables are both in the kernel: a packet must pass both, and each program shows its own alone", "iptables-legacy-save")
	} else if h.Legacy {
		f.add(Note, "firewall", "rules of iptables-legacy are in the kernel: a packet must pass them and Fairlead's", "iptables-legacy-save")
	}
}

// engines are what other engines leave behind: their interfaces, the beginnings of their
// chains' names, their processes.
var engines = []struct {
	name      string
	links     []string
	chains    []string
	processes []string
}{
	{"Docker", []string{"docker0", "docker_gwbridge"}, []string{"DOCKER"}, []string{"dockerd"}},
	{"Podman or CNI", []string{"cni0", "cni-podman", "podman", "flannel.1"}, []string{"CNI-", "NETAVARK"}, []string{"podman", "netavark", "kubelet"}},
}

func (h Host) leftovers(f *findings) {
	for _, e := range engines {
		var links, chains []string
		for _, l := range h.Links {
			if has([]string{l}, e.links...) {
				links = append(links, l)
			}
		}
		for _, c := range h.Chains {
			words := strings.Fields(c)
			name := words[len(words)-1]
			if has([]string{name}, e.chains...) && (h.Daemon == nil || !slices.Contains(h.Daemon.OwnChains, name)) {
				chains = append(chains, c)
			}
		}
		if len(links)+len(chains) == 0 {
			continue
		}
		if i := slices.IndexFunc(h.Running, func(p string) bool { return slices.Contains(e.processes, p) }); i >= 0 {
			f.add(Note, "leftovers", fmt.Sprintf("%s runs beside Fairlead (%s), each with its own networks", e.name, h.Running[i]))
			continue
		}
		for _, l := range links {
			f.add(Warning, "leftovers", fmt.Sprintf("interface %s is left of %s, which does not run: its subnet cannot be a network's", l, e.name), "ip link del "+l)
		}
		if len(chains) > 0 {
			f.add(Warning, "leftovers", fmt.Sprintf("chains are left of %s, which does not run, and may drop or translate packets: %s", e.name, strings.Join(chains, ", ")), remove(chains)...)
		}
	}
}

// remove are the commands that take chains away, with every rule that names them: what
// is not theirs is read and put back as it was.
func remove(chains []string) (out []string) {
	seen := make(map[string]bool)
	for _, c := range chains {
		words := strings.Fields(c)
		command, table := words[0], words[1]
		switch command {
		case "ip", "inet", "ip6":
			if table == "netavark" {
				command = fmt.Sprintf("nft delete table %s %s", words[0], table)
				break
			}
			tool := map[string]string{"ip": "iptables-nft", "ip6": "ip6tables-nft"}[words[0]]
			command = fmt.Sprintf("%s-save -t %s | grep -v %s | %s-restore", tool, table, pattern(words[2]), tool)
			if tool == "" {
				command = fmt.Sprintf("nft delete table %s %s", words[0], table)
			}
		default:
			command = fmt.Sprintf("%s-save -t %s | grep -v %s | %s-restore", command, table, pattern(words[2]), command)
		}
		if !seen[command] {
			seen[command] = true
			out = append(out, command)
		}
	}
	return out
}

// pattern matches the names of an engine's chains, for grep.
func pattern(chain string) string {
	for _, e := range engines {
		for _, prefix := range e.chains {
			if strings.HasPrefix(chain, prefix) {
				return prefix
			}
		}
	}
	return chain
}
