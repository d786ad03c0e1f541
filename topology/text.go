package topology

import (
	"io"
	"strings"
)

// node is a line of a tree with what hangs on it.
type node struct {
	text     string
	children []node
}

// WriteText writes the picture as a tree.
func (h Host) WriteText(w io.Writer) error {
	var b strings.Builder
	h.tree().write(&b, "", "")
	_, err := io.WriteString(w, b.String())
	return err
}

// write puts first before the node's own line, and rest before those below it.
func (n node) write(b *strings.Builder, first, rest string) {
	b.WriteString(first + n.text + "\n")
	for i, c := range n.children {
		if i == len(n.children)-1 {
			c.write(b, rest+"└─ ", rest+"   ")
		} else {
			c.write(b, rest+"├─ ", rest+"│  ")
		}
	}
}

func (h Host) tree() node {
	root := node{text: "host " + h.Name}
	for _, u := range h.Uplinks {
		root.children = append(root.children, node{text: u.text()})
	}
	for _, n := range h.Networks {
		root.children = append(root.children, n.tree())
	}
	for _, name := range h.OnHost {
		root.children = append(root.children, node{text: "container " + name + ", on the host's network"})
	}
	for _, name := range h.Apart {
		root.children = append(root.children, node{text: "container " + name + ", on no network"})
	}
	return root
}

func (n Network) tree() node {
	top := node{text: n.title()}
	bridge := node{text: n.device()}
	for _, s := range n.Subnets {
		bridge.text += ", " + s.text()
	}
	for _, e := range n.Endpoints {
		leaf := node{text: e.HostInterface + " ── " + e.Interface + "  " + who(e.Container, e.SharedBy) + "  " + strings.Join(e.Addresses, " ")}
		if e.Default {
			leaf.text += ", default route"
		}
		if !e.Up {
			leaf.text += ", DOWN"
		}
		for _, p := range e.Ports {
			leaf.children = append(leaf.children, node{text: "published " + p})
		}
		bridge.children = append(bridge.children, leaf)
	}
	top.children = []node{bridge}
	return top
}
