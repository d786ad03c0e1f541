package netfilter

import (
	"net/netip"
	"strconv"
	"strings"
)

// priorities are where the chains of iptables-legacy stand (linux/netfilter_ipv4.h).
var priorities = map[string]map[string]int{
	"raw":    {"PREROUTING": -300, "OUTPUT": -300},
	"mangle": {"PREROUTING": -150, "INPUT": -150, "FORWARD": -150, "OUTPUT": -150, "POSTROUTING": -150},
	"nat":    {"PREROUTING": -100, "INPUT": 100, "OUTPUT": -100, "POSTROUTING": 100},
	"filter": {"INPUT": 0, "FORWARD": 0, "OUTPUT": 0},
}

var legacyHooks = map[string]Hook{"PREROUTING": Prerouting, "INPUT": Input, "FORWARD": Forward, "OUTPUT": Output, "POSTROUTING": Postrouting}

// ParseSaved reads what iptables-legacy-save (or ip6tables-legacy-save) prints.
func ParseSaved(saved string, family uint8) (out []*Table) {
	var t *Table
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			t = &Table{Family: family, Name: line[1:], Legacy: true, Chains: make(map[string]*Chain)}
			out = append(out, t)
		case t == nil:
		case strings.HasPrefix(line, ":"):
			fields := strings.Fields(line[1:])
			if len(fields) < 2 {
				continue
			}
			ch := &Chain{Name: fields[0], Type: "filter", Hook: NoHook, Drop: fields[1] == "DROP"}
			if p, ok := priorities[t.Name][ch.Name]; ok {
				ch.Hook, ch.Priority = legacyHooks[ch.Name], p
			}
			if t.Name == "nat" {
				ch.Type = "nat"
			}
			t.Chains[ch.Name] = ch
		case strings.HasPrefix(line, "-A "):
			words := split(line)
			if ch := t.Chains[words[1]]; ch != nil {
				r := Rule{Handle: uint64(len(ch.Rules) + 1), Words: words[2:]}
				for i, w := range r.Words[:max(len(r.Words)-1, 0)] {
					if w == "--comment" {
						r.Comment = r.Words[i+1]
					}
				}
				ch.Rules = append(ch.Rules, r)
			}
		}
	}
	return out
}

// split is by spaces outside of double quotes.
func split(line string) (out []string) {
	var word strings.Builder
	quoted := false
	for _, c := range line + " " {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			if word.Len() > 0 {
				out = append(out, word.String())
				word.Reset()
			}
		default:
			word.WriteRune(c)
		}
	}
	return out
}

// words runs a rule of iptables-legacy.
func (m *machine) words(ch *Chain, r Rule) (Verdict, bool) {
	words := r.Words
	inverted := false
	for i := 0; i < len(words); i++ {
		w, value := words[i], ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		if w == "!" {
			inverted = true
			continue
		}
		if w == "-j" || w == "-g" {
			return m.jump(w, value, words[i+1:], m.where(ch, r))
		}
		is, known := m.word(w, value)
		if !known {
			if strings.HasPrefix(w, "-") {
				m.doubt()
			}
			continue
		}
		if i++; is == inverted {
			return Verdict{}, false
		}
		inverted = false
	}
	return Verdict{}, false
}

// word says what a match of one value is; false for what it does not know.
func (m *machine) word(w, value string) (is, known bool) {
	p := m.p
	switch w {
	case "-m", "--comment", "--limit", "--limit-burst":
		return true, true
	case "-i":
		return namedAs(p.In.Name, value), true
	case "-o":
		return namedAs(p.Out.Name, value), true
	case "-s":
		return inPrefix(p.Source.Addr(), value), true
	case "-d":
		return inPrefix(p.Destination.Addr(), value), true
	case "-p":
		return protoNamed(value) == p.Proto, true
	case "--dport", "--dports":
		return inPorts(p.Destination.Port(), value), true
	case "--sport", "--sports":
		return inPorts(p.Source.Port(), value), true
	case "--ctstate", "--state":
		return m.inStates(value), true
	case "--ctorigdstport":
		return inPorts(p.Original.Destination.Port(), value), true
	case "--dst-type":
		return p.Local != nil && p.Local(p.Destination.Addr()) == (value == "LOCAL"), true
	case "--src-type":
		return p.Local != nil && p.Local(p.Source.Addr()) == (value == "LOCAL"), true
	case "--src-group":
		return strconv.FormatUint(uint64(p.In.Group), 16) == strings.TrimPrefix(value, "0x"), true
	case "--dst-group":
		return strconv.FormatUint(uint64(p.Out.Group), 16) == strings.TrimPrefix(value, "0x"), true
	}
	return false, false
}

func namedAs(name, pattern string) bool {
	if before, ok := strings.CutSuffix(pattern, "+"); ok {
		return strings.HasPrefix(name, before)
	}
	return name == pattern
}

func inPrefix(a netip.Addr, text string) bool {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Contains(a)
	}
	b, err := netip.ParseAddr(text)
	return err == nil && a == b
}

func protoNamed(name string) uint8 {
	switch name {
	case "tcp":
		return ProtoTCP
	case "udp":
		return ProtoUDP
	case "sctp":
		return ProtoSCTP
	case "icmp":
		return ProtoICMP
	case "ipv6-icmp", "icmpv6":
		return ProtoICMPv6
	}
	n, _ := strconv.ParseUint(name, 10, 8)
	return uint8(n)
}

func inPorts(port uint16, text string) bool {
	for part := range strings.SplitSeq(text, ",") {
		low, high, ok := strings.Cut(part, ":")
		if !ok {
			high = low
		}
		from, _ := strconv.ParseUint(low, 10, 16)
		to, err := strconv.ParseUint(high, 10, 16)
		if err == nil && uint64(port) >= from && uint64(port) <= to {
			return true
		}
	}
	return false
}

func (m *machine) inStates(text string) bool {
	for s := range strings.SplitSeq(text, ",") {
		switch s {
		case "NEW":
			if !m.p.Established {
				return true
			}
		case "ESTABLISHED":
			if m.p.Established {
				return true
			}
		case "DNAT":
			if m.p.DestinationNAT {
				return true
			}
		case "SNAT":
			if m.p.SourceNAT {
				return true
			}
		}
	}
	return false
}

func (m *machine) jump(option, name string, rest []string, by Where) (Verdict, bool) {
	switch name {
	case "ACCEPT":
		return Verdict{Code: CodeAccept}, true
	case "REJECT":
		m.reject = true
		return Verdict{Code: CodeDrop}, true
	case "DROP":
		return Verdict{Code: CodeDrop}, true
	case "RETURN":
		return Verdict{Code: CodeReturn}, true
	case "MASQUERADE":
		return Verdict{Code: CodeAccept}, m.source(Translation{Set: true, Masquerade: true, By: by})
	case "SNAT", "DNAT":
		t := Translation{Set: true, By: by}
		if len(rest) >= 3 {
			if ap, err := netip.ParseAddrPort(rest[2]); err == nil {
				t.Addr, t.Port = ap.Addr(), ap.Port()
			} else if a, err := netip.ParseAddr(rest[2]); err == nil {
				t.Addr = a
			}
		}
		if name == "DNAT" {
			return Verdict{Code: CodeAccept}, m.destination(t)
		}
		return Verdict{Code: CodeAccept}, m.source(t)
	}
	if name == "NOTRACK" || name == "CT" && len(rest) >= 2 && rest[1] == "--notrack" {
		return goOn, m.untrack(by)
	}
	if m.table.Chains[name] == nil {
		return goOn, false // a target that decides nothing, LOG for one
	}
	if option == "-g" {
		return Verdict{Code: CodeGoto, Chain: name}, true
	}
	return Verdict{Code: CodeJump, Chain: name}, true
}
