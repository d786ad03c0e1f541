package walkthrough

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Names gives what differs from run to run names that do not: an ID, a hardware address
// or a port that was chosen at random becomes another of the same shape, by the order in
// which they are first seen. The same one becomes the same everywhere, so what belongs
// together can be followed through a document.
//
// It is for one run of one document.
type Names struct {
	fixed []fixed
	// byKind has the names of what was seen, in order of appearance.
	byKind map[string]*seen
}

type fixed struct {
	what *regexp.Regexp
	with string
}

// seen are things of one kind.
type seen struct {
	names map[string]string // by what they are
	reals map[string]string // by name
}

// NewNames has no names yet.
func NewNames() *Names { return &Names{byKind: map[string]*seen{}} }

// Always replaces what matches by the same text, as Regexp.ReplaceAllString would, before
// anything else is looked at.
func (n *Names) Always(pattern, with string) {
	n.fixed = append(n.fixed, fixed{regexp.MustCompile(pattern), with})
}

// kindSeen are the things of a kind.
func (n *Names) kindSeen(kind string) *seen {
	s := n.byKind[kind]
	if s == nil {
		s = &seen{map[string]string{}, map[string]string{}}
		n.byKind[kind] = s
	}
	return s
}

// name is that of a thing, made when it is first seen of its number among its kind.
func (n *Names) name(kind, real string, shape func(number int) string) string {
	s := n.kindSeen(kind)
	name, known := s.names[real]
	if !known {
		name = shape(len(s.names))
		s.names[real], s.reals[name] = name, real
	}
	return name
}

// digits are of no meaning, but always the same.
func digits(kind string, number, length int) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, number)))[:length]
}

// stable is a form of text that differs from run to run.
type stable struct {
	pattern *regexp.Regexp
	// name is what the text becomes; the groups of the pattern are in m.
	name func(n *Names, m []string) string
}

// idStart is by how many digits of an ID its other forms are known: the name of a veth
// has so many of its endpoint's.
const idStart = 7

// stables are all such forms. A text is looked at for each in this order.
var stables = []stable{
	// IDs: whole, short, and in names of links.
	{regexp.MustCompile(`(\bveth)([0-9a-f]{7})\b`), func(n *Names, m []string) string { return m[1] + n.id(m[2]) }},
	{regexp.MustCompile(`()\b([0-9a-f]{64}|[0-9a-f]{12})\b`), func(n *Names, m []string) string { return n.id(m[2]) }},
	// Hardware addresses that do not follow from an address, and what follows from them.
	{regexp.MustCompile(`\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b`), (*Names).mac},
	{regexp.MustCompile(`\bfe80::[0-9a-f:]+[0-9a-f]\b`), (*Names).linkLocal},
	// Ports out of the range that the kernel or the daemon chooses from.
	{regexp.MustCompile(`([\d\]a-z][:.]|(?:tcp|udp) \. |\bdpt:|\bsport=|\bdport=|\bport |--dport )(32(?:7[6-9]\d|[89]\d\d)|3[3-9]\d{3}|4\d{4}|5\d{4}|6[0-5]\d{3})\b`), (*Names).port},
	{regexp.MustCompile(`(\bICMP6?,? echo (?:request|reply), id |\bicmp id )(\d+)`), func(n *Names, m []string) string { return m[1] + "7" }},
	{regexp.MustCompile(`(@if|^|\n)(\d+)(: | *)`), (*Names).index},
	{regexp.MustCompile(`\b(net:\[|inode )?(40265\d{5})\b`), func(n *Names, m []string) string {
		return m[1] + n.name("namespace", m[2], func(i int) string { return strconv.Itoa(4026532200 + 84*i) })
	}},
	{regexp.MustCompile(`\b((?:pid|PID)[= ])(\d+)`), func(n *Names, m []string) string {
		return m[1] + n.name("process", m[2], func(i int) string { return strconv.Itoa(4100 + 7*i) })
	}},
	{regexp.MustCompile(`\b(seq|ack) (\d{4,10})\b`), (*Names).sequence},
	// Times of day, and how long things took.
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), func(*Names, []string) string { return "2026-01-15T09:30:00Z" }},
	{regexp.MustCompile(`(?m)^( *)(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d(  )`), func(_ *Names, m []string) string { return m[1] + "09:30:00" + m[2] }},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d{6}\b`), func(n *Names, _ []string) string { return n.clock() }},
	{regexp.MustCompile(`(?m)^( *)([\d.]+)( ?)(ns|µs|ms|s)(  )`), (*Names).lapse},
	{regexp.MustCompile(`( after )[\d.]+ (µs|ms|s)\.`), func(_ *Names, m []string) string { return m[1] + "150 µs." }},
	{regexp.MustCompile(`\btime=[\d.]+ ms`), func(*Names, []string) string { return "time=0.05 ms" }},
	{regexp.MustCompile(`, time \d+ms\n`), func(*Names, []string) string { return ", time 0ms\n" }},
	{regexp.MustCompile(`(rtt|round-trip) (min/avg/max(?:/mdev)?) = .*ms\b`), func(_ *Names, m []string) string {
		return m[1] + " " + m[2] + " = " + strings.TrimSuffix(strings.Repeat("0.05/", strings.Count(m[2], "/")+1), "/") + " ms"
	}},
}

// Hide is what the document has for what a command printed: lines without blanks at their
// ends, and names that are the same in each run.
func (n *Names) Hide(output string) string {
	for _, f := range n.fixed {
		output = f.what.ReplaceAllString(output, f.with)
	}
	for _, s := range stables {
		output = replace(s.pattern, output, func(m []string) string { return s.name(n, m) })
	}
	var b strings.Builder
	for line := range strings.Lines(output) {
		b.WriteString(strings.TrimRight(line, " \t\r\n") + "\n")
	}
	return b.String()
}

// replace is ReplaceAllStringFunc with the groups of each match.
func replace(pattern *regexp.Regexp, text string, with func(groups []string) string) string {
	var b strings.Builder
	last := 0
	for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
		groups := make([]string, len(at)/2)
		for i := range groups {
			if at[2*i] >= 0 {
				groups[i] = text[at[2*i]:at[2*i+1]]
			}
		}
		b.WriteString(text[last:at[0]] + with(groups))
		last = at[1]
	}
	return b.String() + text[last:]
}

// typed are the names that a command may have.
var typed = regexp.MustCompile(`\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b|\b(veth)?([0-9a-f]{64}|[0-9a-f]{12}|[0-9a-f]{7})\b|(:)(\d{5})\b`)

// Show is the command to run for one that the document has: with what its names stand
// for.
func (n *Names) Show(command string) string {
	return replace(typed, command, func(m []string) string {
		switch {
		case m[2] != "":
			if real := n.kindSeen("id").reals[m[2][:idStart]]; len(real) >= len(m[2]) {
				return m[1] + real[:len(m[2])]
			}
		case m[4] != "":
			if real, known := n.kindSeen("port").reals[m[4]]; known {
				return m[3] + real
			}
		default:
			if real, known := n.kindSeen("mac").reals[m[0]]; known {
				return real
			}
		}
		return m[0]
	})
}

// id is the name of an ID, or of the beginning of one: the same beginning of its name.
func (n *Names) id(real string) string {
	name := n.name("id", real[:idStart], func(i int) string { return digits("id", i, 64) })
	whole := n.kindSeen("id").reals
	if start := name[:idStart]; len(real) > len(whole[start]) {
		whole[start] = real
	}
	return name[:len(real)]
}

// derived are the beginnings of hardware addresses that say something: those of
// containers have their IPv4 address, others are for many.
var derived = regexp.MustCompile(`^(02:42:(ac:1[0-9a-f]|c0:a8)|00:00:00|ff:ff:ff|33:33|01:00:5e|01:80:c2)`)

func (n *Names) mac(m []string) string {
	if derived.MatchString(m[0]) {
		return m[0]
	}
	return n.name("mac", m[0], func(i int) string {
		d, start := digits("mac", i, 8), "9a:3c"
		if strings.HasPrefix(m[0], "02:42") || strings.HasPrefix(m[0], "fe:42") {
			start = m[0][:5]
		}
		return fmt.Sprintf("%s:%s:%s:%s:%s", start, d[:2], d[2:4], d[4:6], d[6:])
	})
}

func (n *Names) linkLocal(m []string) string {
	return n.name("link-local", m[0], func(i int) string {
		d := digits("link-local", i, 8)
		return fmt.Sprintf("fe80::fc42:%sff:fe%s:%s", "1a", d[:2], "1"+d[3:6])
	})
}

func (n *Names) port(m []string) string {
	return m[1] + n.name("port", m[2], func(i int) string { return strconv.Itoa(49160 + 3*i) })
}

// index is the number of a link. Those in a container, which begin at 1 and are the same
// each time, stay; those of a host depend on what was there before.
func (n *Names) index(m []string) string {
	if m[1] != "@if" && m[3] != ": " {
		return m[0]
	}
	if v, _ := strconv.Atoi(m[2]); v <= 2 {
		return m[0]
	}
	name := n.name("index", m[2], func(i int) string { return strconv.Itoa(4 + i) })
	if strings.HasPrefix(m[3], " ") { // what follows stays in its column
		return m[1] + fmt.Sprintf("%-*s", len(m[2])+len(m[3]), name)
	}
	return m[1] + name + m[3]
}

// sequence numbers of TCP keep their distance from one that was seen before.
func (n *Names) sequence(m []string) string {
	const near = 1 << 16
	v, _ := strconv.ParseUint(m[2], 10, 32)
	for real, name := range n.kindSeen("sequence").names {
		was, _ := strconv.ParseUint(real, 10, 32)
		if distance := uint32(v) - uint32(was); distance < near {
			base, _ := strconv.ParseUint(name, 10, 32)
			return fmt.Sprintf("%s %d", m[1], uint32(base)+distance)
		}
	}
	return m[1] + " " + n.name("sequence", m[2], func(i int) string { return strconv.Itoa(1_804_289_383 + 424_238_335*i) })
}

// clock goes on by 25 µs each time it is looked at.
func (n *Names) clock() string {
	ticks := n.kindSeen("clock").names
	ticks[strconv.Itoa(len(ticks))] = ""
	return fmt.Sprintf("09:30:00.%06d", 25*len(ticks)%1_000_000)
}

// lapse is how long something took, at the beginning of a line: nothing, or a time that
// grows from line to line.
func (n *Names) lapse(m []string) string {
	laps := n.kindSeen("lapse").names
	if m[2] == "0" {
		clear(laps)
	}
	width := len(m[1]) + len(m[2]) + len(m[3]) + len([]rune(m[4]))
	name := fmt.Sprintf("%d%s%s", 12*len(laps), m[3], "µs")
	if m[2] == "0" {
		name = "0" + m[3] + m[4]
	}
	laps[strconv.Itoa(len(laps))] = ""
	return fmt.Sprintf("%*s%s", width, name, m[5])
}
