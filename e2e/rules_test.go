package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the documents of docs/rules anew")

// setUp is one that the rules are shown of.
type setUp struct {
	file, title string
	daemon      []string
	commands    []string
	// says explains what to look for, by back end.
	says map[string]string
}

var setUps = []setUp{
	{
		file: "default-network", title: "The default network",
		commands: []string{"run -d --name web demo sleep 3600"},
		says: map[string]string{
			nftables: "The bridge is an element of `bridges`, its subnet one of `subnets4` and of `masquerade4`: what leaves goes out under the address of the host, answers come back in, and nothing else comes in. The rules are the same with any number of networks. A container that publishes nothing adds what it may send under, to sets of the table of the family bridge.",
			iptables: "`DOCKER-CT` lets answers in, `DOCKER-FORWARD` lets containers out, and `DOCKER` drops what else comes in; in the table nat what leaves gets the address of the host, and what the bridge's containers send to published ports is left to the userland proxy (RETURN). A container that publishes nothing adds nothing there; what it may send under is in sets of the nftables table of the family bridge.",
		},
	},
	{
		file: "published-port", title: "Published ports",
		commands: []string{"run -d --name web -p 8080:80 -p 9000-9009:9000-9009/udp -p 127.0.0.1:8081:81 demo sleep 3600"},
		says: map[string]string{
			nftables: "A port is one element of `publish4any`, a range of eight ports or more is one of `publish4rangeany`; what was translated by them is let in by `ct status dnat`. The port on 127.0.0.1 has no element: the userland proxy serves it.",
			iptables: "A port is one DNAT in the chain `DOCKER` of the table nat and one ACCEPT in that of the table filter, and so is a range. The table raw drops what is sent to the container's own address from elsewhere, and what comes for the port on 127.0.0.1 by any interface but lo.",
		},
	},
	{
		file: "internal", title: "An internal network",
		commands: []string{"network create --internal --subnet 10.9.0.0/24 inner -o com.docker.network.bridge.name=br-inner", "run -d --name db --network inner demo sleep 3600"},
		says: map[string]string{
			nftables: "The bridge is an element of `internal`, for both families: forwarded packets to and from it are dropped, and new connections to the host are, too.",
			iptables: "`DOCKER-INTERNAL` drops what comes from or goes to elsewhere, and `INPUT` new connections to the host.",
		},
	},
	{
		file: "icc-off", title: "Containers kept apart, and a link",
		commands: []string{
			"network create --subnet 10.11.0.0/24 apart -o com.docker.network.bridge.enable_icc=false -o com.docker.network.bridge.name=br-apart",
			"run -d --name web --network apart --expose 80 demo sleep 3600",
			"run -d --name client --network apart --link web:web demo sleep 3600",
		},
		says: map[string]string{
			nftables: "What one port of the bridge sends to another is decided on in the table of the family bridge, by frames: only ports that a link opens (`links4`), between the two that it is for (`pairs`). Packets that the host would route back into the network meet the same in the table of the family inet.",
			iptables: "The rule of the link stands in `DOCKER`, before `DOCKER-FORWARD` drops what goes from the bridge to itself. Frames that never meet iptables are decided on in the nftables table of the family bridge, which this back end has as well.",
		},
	},
	{
		file: "routed", title: "A routed network",
		commands: []string{
			"network create --subnet 10.10.0.0/24 routed -o com.docker.network.bridge.gateway_mode_ipv4=routed -o com.docker.network.bridge.name=br-routed",
			"run -d --name web --network routed -p 80 demo sleep 3600",
		},
		says: map[string]string{
			nftables: "Nothing is translated: the subnet is no element of `masquerade4`, and the published port is one of `open4`, reached by the container's own address.",
			iptables: "Nothing is translated: there is no rule in the table nat, and the published port is an ACCEPT in `DOCKER`, reached by the container's own address.",
		},
	},
	{
		file: "outbound-address", title: "A chosen address for what leaves",
		commands: []string{
			"network create --subnet 10.12.0.0/24 out -o com.docker.network.host_ipv4=192.0.2.11 -o com.docker.network.bridge.name=br-out",
			"run -d --name web --network out demo sleep 3600",
		},
		says: map[string]string{
			nftables: "The subnet is an element of the map `outbound4`, which names the address, instead of one of `masquerade4`.",
			iptables: "SNAT to the address stands in POSTROUTING in the place of MASQUERADE.",
		},
	},
}

// TestRulesDocumented: docs/rules shows the rules that a running daemon makes.
func TestRulesDocumented(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		for _, su := range setUps {
			t.Run(su.file, func(t *testing.T) {
				t.Parallel()
				s := newHosts(t)
				s.host.Router() // so that the daemon need not turn it on
				s.startOn(backend, su.daemon...)
				for _, command := range su.commands {
					s.Must(words(command)...)
				}
				got := s.document(backend, su)
				path := filepath.Join("..", "docs", "rules", backend+"-"+su.file+".md")
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("%s (-) is not what a daemon makes (+); if it should be, run with -update:\n%s", path, diff)
				}
				s.consistent()
			})
		}
	})
}

// document shows the rules of the host.
func (s *site) document(backend string, su setUp) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: %s\n\n%s\n\n", backend, strings.ToLower(su.title[:1])+su.title[1:], su.says[backend])
	daemon := append([]string{"fairlead", "daemon"}, su.daemon...)
	if backend != nftables {
		daemon = append(daemon, "--firewall-backend="+backend)
	}
	fmt.Fprintf(&b, "```\n%s\n", strings.Join(daemon, " "))
	for _, c := range su.commands {
		fmt.Fprintf(&b, "fairlead %s\n", c)
	}
	b.WriteString("```\n")
	show := func(command string, text string) {
		fmt.Fprintf(&b, "\n`%s` then shows\n\n```\n%s\n```\n", command, strings.TrimSpace(text))
	}
	if backend == iptables {
		for _, command := range []string{"iptables-save", "ip6tables-save"} {
			show(command, saved(s.host.Run(command)))
		}
	} else {
		show("nft --stateless list table inet fairlead", tableText(s.host.Run("nft", "--stateless", "list", "table", "inet", "fairlead")))
	}
	show("nft --stateless list table bridge fairlead", tableText(s.host.Run("nft", "--stateless", "list", "table", "bridge", "fairlead")))
	return b.String()
}

var (
	commentLine = regexp.MustCompile(`(?m)^#.*\n`)
	anyVeth     = regexp.MustCompile(`"veth[0-9a-f]+"`)
	vethAddress = regexp.MustCompile(`("veth[0-9a-f]+") \. ([0-9a-f.:]+)`)
	anyDaemon   = regexp.MustCompile(`(\(daemon |fairlead-)[0-9a-f]{12}`)
	progName    = regexp.MustCompile(` # progname .*`)
	elements    = regexp.MustCompile(`(?s)elements = \{ (.*?) \}`)
)

// saved is iptables-save's output without what differs from run to run.
func saved(text string) string {
	text = commentLine.ReplaceAllString(text+"\n", "")
	text = regexp.MustCompile(`\[\d+:\d+\]`).ReplaceAllString(text, "[0:0]")
	return anyDaemon.ReplaceAllString(text, "${1}0123456789ab")
}

// tableText is nft's output without what differs from run to run: names of links, the
// daemon's ID, the order of elements.
func tableText(text string) string {
	text = progName.ReplaceAllString(text, "")
	names := make(map[string]string)
	// Links' names are random, and elements come in any order: addresses are neither.
	owners := vethAddress.FindAllStringSubmatch(text, -1)
	slices.SortFunc(owners, func(a, b []string) int { return strings.Compare(a[2], b[2]) })
	for _, o := range owners {
		if names[o[1]] == "" {
			names[o[1]] = fmt.Sprintf(`"veth-%d"`, len(names)+1)
		}
	}
	text = anyVeth.ReplaceAllStringFunc(text, func(name string) string {
		if names[name] == "" {
			names[name] = fmt.Sprintf(`"veth-%d"`, len(names)+1)
		}
		return names[name]
	})
	text = elements.ReplaceAllStringFunc(text, func(all string) string {
		inner := elements.FindStringSubmatch(all)[1]
		parts := strings.Split(strings.Join(strings.Fields(inner), " "), ", ")
		slices.Sort(parts)
		return "elements = { " + strings.Join(parts, ", ") + " }"
	})
	return anyDaemon.ReplaceAllString(text, "${1}0123456789ab")
}
