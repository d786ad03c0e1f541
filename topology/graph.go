package topology

import (
	"fmt"
	"io"
	"strings"
)

// graph is the picture as nodes and edges: what Graphviz and Mermaid lay out
// themselves. A node is known by its number.
type graph struct {
	nodes []vertex
	edges []edge
}

type vertex struct {
	kind  kind
	lines []string
}

type kind int

const (
	hostNode kind = iota
	uplinkNode
	networkNode
	containerNode
)

type edge struct {
	from, to int
	lines    []string
}

func (g *graph) add(k kind, lines ...string) int {
	g.nodes = append(g.nodes, vertex{k, lines})
	return len(g.nodes) - 1
}

func (g *graph) join(from, to int, lines ...string) {
	g.edges = append(g.edges, edge{from, to, lines})
}

func (h Host) graph() graph {
	var g graph
	host := g.add(hostNode, "host "+h.Name)
	for _, u := range h.Uplinks {
		g.join(g.add(uplinkNode, append([]string{u.Name}, u.Addresses...)...), host, state(u.Up)...)
	}
	networks := make([]int, len(h.Networks))
	for i, n := range h.Networks {
		networks[i] = g.add(networkNode, n.lines()...)
		g.join(host, networks[i])
	}
	for _, c := range h.Containers() {
		lines := []string{who(c.Name, c.SharedBy)}
		for _, e := range c.Ends {
			lines = append(lines, e.Ports...)
		}
		at := g.add(containerNode, lines...)
		for _, e := range c.Ends {
			g.join(networks[e.Network], at, append([]string{e.HostInterface + " – " + e.Interface}, append(e.Addresses, state(e.Up)...)...)...)
		}
	}
	for _, name := range h.OnHost {
		g.join(host, g.add(containerNode, name), "the host's network")
	}
	for _, name := range h.Apart {
		g.add(containerNode, name, "no network")
	}
	return g
}

// lines are what is written in the network's box.
func (n Network) lines() []string {
	lines := []string{n.title(), n.device()}
	for _, s := range n.Subnets {
		lines = append(lines, s.text())
	}
	return lines
}

func state(up bool) []string {
	if up {
		return nil
	}
	return []string{"DOWN"}
}

// WriteDOT writes the picture in Graphviz' language (graphviz.org/doc/info/lang.html).
func (h Host) WriteDOT(w io.Writer) error {
	shapes := map[kind]string{
		hostNode: "shape=box3d", uplinkNode: "shape=cds", networkNode: "shape=box, style=\"rounded,filled\", fillcolor=\"#dbe9f6\"", containerNode: "shape=box",
	}
	var b strings.Builder
	b.WriteString("graph fairlead {\n\trankdir=LR;\n\tnode [fontname=\"monospace\", fontsize=10];\n\tedge [fontname=\"monospace\", fontsize=9];\n")
	g := h.graph()
	for i, n := range g.nodes {
		fmt.Fprintf(&b, "\tn%d [label=%s, %s];\n", i, quoteDOT(n.lines), shapes[n.kind])
	}
	for _, e := range g.edges {
		fmt.Fprintf(&b, "\tn%d -- n%d [label=%s];\n", e.from, e.to, quoteDOT(e.lines))
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// quoteDOT is a quoted string of Graphviz, the lines one below the other.
func quoteDOT(lines []string) string {
	return `"` + strings.Join(each(lines, strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ")), `\n`) + `"`
}

// WriteMermaid writes the picture as a flowchart of Mermaid (mermaid.js.org).
func (h Host) WriteMermaid(w io.Writer) error {
	shapes := map[kind][2]string{
		hostNode: {"[[", "]]"}, uplinkNode: {">", "]"}, networkNode: {"(", ")"}, containerNode: {"[", "]"},
	}
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	g := h.graph()
	for i, n := range g.nodes {
		fmt.Fprintf(&b, "    n%d%s%s%s\n", i, shapes[n.kind][0], quoteMermaid(n.lines), shapes[n.kind][1])
	}
	for _, e := range g.edges {
		arrow := "---"
		if len(e.lines) > 0 {
			arrow = "---|" + quoteMermaid(e.lines) + "|"
		}
		fmt.Fprintf(&b, "    n%d %s n%d\n", e.from, arrow, e.to)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// quoteMermaid is quoted text of Mermaid, which has HTML's line breaks and entities.
func quoteMermaid(lines []string) string {
	return `"` + strings.Join(each(lines, strings.NewReplacer(`"`, "#quot;", "<", "#lt;", ">", "#gt;", "#", "#35;", "\n", " ")), "<br>") + `"`
}

func each(lines []string, r *strings.Replacer) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = r.Replace(l)
	}
	return out
}
