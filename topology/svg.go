package topology

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The measures of the drawing, in pixels. A letter of a monospace font of 12 pixels is
// some 7.3 wide.
const (
	letter    = 7.4
	line      = 18
	inset     = 10
	between   = 22
	columnGap = 70
)

// box is one thing of the drawing, as wide as its longest line.
type box struct {
	class string
	lines []string
	x, y  float64
}

func (b box) width() float64 {
	longest := 0
	for _, l := range b.lines {
		longest = max(longest, utf8.RuneCountInString(l))
	}
	return float64(longest)*letter + 2*inset
}

func (b box) height() float64 { return float64(len(b.lines)*line + inset) }

// middle is the height of the box's line, or of the box where there is no such line.
func (b box) middle(at int) float64 {
	if at < 0 {
		return b.y + b.height()/2
	}
	return b.y + float64(at*line) + inset/2 + line/2
}

// column puts boxes below one another, and says how wide and how high they are.
func column(boxes []box, x float64) (width, height float64) {
	y := float64(between)
	for i := range boxes {
		boxes[i].x, boxes[i].y = x, y
		y += boxes[i].height() + between
		width = max(width, boxes[i].width())
	}
	return width, y
}

// WriteSVG draws the picture: the host with its uplinks, its networks, and their
// containers, in three columns from left to right.
func (h Host) WriteSVG(w io.Writer) error {
	host := box{class: "host", lines: []string{"host " + h.Name}}
	for _, u := range h.Uplinks {
		host.lines = append(host.lines, u.text())
	}
	left := []box{host}
	for _, name := range h.OnHost {
		left = append(left, box{class: "container", lines: []string{name, "on the host's network"}})
	}
	for _, name := range h.Apart {
		left = append(left, box{class: "container", lines: []string{name, "on no network"}})
	}
	var networks, containers []box
	for _, n := range h.Networks {
		networks = append(networks, box{class: "network", lines: n.lines()})
	}
	type wire struct{ network, container, row int }
	var wires []wire
	for i, c := range h.Containers() {
		b := box{class: "container", lines: []string{who(c.Name, c.SharedBy)}}
		for _, e := range c.Ends {
			wires = append(wires, wire{e.Network, i, len(b.lines)})
			b.lines = append(b.lines, e.HostInterface+" ── "+e.Interface+" "+strings.Join(append(e.Addresses, state(e.Up)...), " "))
			for _, p := range e.Ports {
				b.lines = append(b.lines, "  published "+p)
			}
		}
		containers = append(containers, b)
	}
	x := float64(between)
	width, height := column(left, x)
	x += width + columnGap
	for _, boxes := range [][]box{networks, containers} {
		more, tall := column(boxes, x)
		if len(boxes) > 0 {
			x, height = x+more+columnGap, max(height, tall)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="monospace" font-size="12">`+"\n", x-columnGap+between, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", escape("networks of host "+h.Name))
	b.WriteString("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n")
	for _, n := range networks {
		wireTo(&b, left[0].x+left[0].width(), left[0].middle(-1), n.x, n.middle(-1))
	}
	for _, l := range wires {
		n, c := networks[l.network], containers[l.container]
		wireTo(&b, n.x+n.width(), n.middle(-1), c.x, c.middle(l.row))
	}
	for _, boxes := range [][]box{left, networks, containers} {
		for _, one := range boxes {
			one.draw(&b)
		}
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// wireTo is a line that leaves and arrives level.
func wireTo(b *strings.Builder, x1, y1, x2, y2 float64) {
	half := (x1 + x2) / 2
	fmt.Fprintf(b, `<path d="M%.1f,%.1f C%.1f,%.1f %.1f,%.1f %.1f,%.1f" fill="none" stroke="#666666"/>`+"\n", x1, y1, half, y1, half, y2, x2, y2)
}

var fills = map[string]string{"host": "#f3ecd9", "network": "#dbe9f6", "container": "#e4f2e0"}

func (b box) draw(to *strings.Builder) {
	fmt.Fprintf(to, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="4" fill="%s" stroke="#333333"/>`+"\n", b.x, b.y, b.width(), b.height(), fills[b.class])
	for i, l := range b.lines {
		weight := ""
		if i == 0 {
			weight = ` font-weight="bold"`
		}
		fmt.Fprintf(to, `<text x="%.1f" y="%.1f" xml:space="preserve"%s>%s</text>`+"\n", b.x+inset, b.middle(i)+4, weight, escape(l))
	}
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
