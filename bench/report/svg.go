package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// The measures of a picture, in pixels.
const (
	plotWidth  = 760
	marginLeft = 70 // of lines; of bars it is as wide as their labels
	marginTop  = 44
	lineHeight = 300
	barHeight  = 26
	marginEnd  = 30
	legendLine = 18
	axisRoom   = 46
	charWidth  = 6.7 // of the font below, at its widest as a rule
)

// The colours are Okabe and Ito's, who chose them for every kind of sight; those of
// text and ground follow the reader's scheme.
const style = `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 14px; font-weight: 600; }
.ground { fill: #ffffff; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.high { stroke: #57606a; stroke-width: 2; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .ground { fill: #0d1117; }
  .grid { stroke: #30363d; }
  .high { stroke: #9198a1; }
}
</style>
`

var colours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999999"}

func colour(i int) string { return colours[i%len(colours)] }

// SVG draws the plot. It is one file that needs no other, in light and dark.
func (p Plot) SVG() []byte {
	if len(p.Bars) > 0 {
		return p.bars()
	}
	return p.lines()
}

// canvas is a picture in the making.
type canvas struct{ bytes.Buffer }

func (c *canvas) begin(p Plot, height float64) {
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f" role="img" aria-label="%s">`+"\n",
		plotWidth, height, plotWidth, height, escape(p.Title))
	c.WriteString(style)
	fmt.Fprintf(c, `<rect class="ground" width="%d" height="%.0f" rx="6"/>`+"\n", plotWidth, height)
	c.text(16, 24, "start", p.Title, ` class="title"`)
}

func (c *canvas) text(x, y float64, anchor, text, more string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>`+"\n", x, y, anchor, more, escape(text))
}

func (c *canvas) rule(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(c, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
}

func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a Buffer takes everything
	return b.String()
}

// bars draws one below the other, with the figure behind each.
func (p Plot) bars() []byte {
	var values []float64
	left := 0.0
	for _, b := range p.Bars {
		values = append(values, b.Value, max(b.High, b.Value))
		left = max(left, charWidth*float64(len([]rune(b.Label))))
	}
	left += 28
	const figure = 70 // room for it behind the longest bar
	a := newAxis(values, p.LogX, plotWidth-left-figure-marginEnd)
	bottom := float64(marginTop + barHeight*len(p.Bars))
	var c canvas
	c.begin(p, bottom+axisRoom)
	for _, t := range a.ticks() {
		x := left + a.place(t)
		c.rule("grid", x, marginTop, x, bottom)
		c.text(x, bottom+16, "middle", Number(t), "")
	}
	c.text(left+a.length/2, bottom+36, "middle", p.X, "")
	for i, b := range p.Bars {
		y := float64(marginTop + barHeight*i)
		c.text(left-10, y+barHeight/2+4, "end", b.Label, "")
		fmt.Fprintf(&c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", left, y+4, max(a.place(b.Value), 1), barHeight-8, colour(i))
		if b.High > b.Value {
			c.rule("high", left+a.place(b.Value), y+barHeight/2, left+a.place(b.High), y+barHeight/2)
		}
		c.text(left+a.place(max(b.High, b.Value))+6, y+barHeight/2+4, "start", Number(b.Value), "")
	}
	c.WriteString("</svg>\n")
	return c.Bytes()
}

// lines draws series, with a legend below the title.
func (p Plot) lines() []byte {
	var xs, ys []float64
	for _, l := range p.Lines {
		for _, pt := range l.Points {
			xs, ys = append(xs, pt.X), append(ys, pt.Y)
		}
	}
	ax := newAxis(xs, p.LogX, plotWidth-marginLeft-marginEnd)
	ay := newAxis(ys, p.LogY, lineHeight)
	top := float64(marginTop + legendLine*len(p.Lines))
	bottom := top + lineHeight
	var c canvas
	c.begin(p, bottom+axisRoom)
	for _, t := range ax.ticks() {
		x := marginLeft + ax.place(t)
		c.rule("grid", x, top, x, bottom)
		c.text(x, bottom+16, "middle", Number(t), "")
	}
	for _, t := range ay.ticks() {
		y := bottom - ay.place(t)
		c.rule("grid", marginLeft, y, plotWidth-marginEnd, y)
		c.text(marginLeft-8, y+4, "end", Number(t), "")
	}
	c.text(marginLeft+ax.length/2, bottom+36, "middle", p.X, "")
	fmt.Fprintf(&c, `<text transform="translate(16 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", top+lineHeight/2, escape(p.Y))
	for i, l := range p.Lines {
		y := float64(marginTop + legendLine*i)
		fmt.Fprintf(&c, `<rect x="%d" y="%.1f" width="22" height="4" fill="%s"/>`+"\n", marginLeft, y+2, colour(i))
		c.text(marginLeft+30, y+8, "start", l.Name, "")
		fmt.Fprintf(&c, `<polyline class="line" stroke="%s" points="`, colour(i))
		for _, pt := range l.Points {
			if (p.LogX && pt.X <= 0) || (p.LogY && pt.Y <= 0) {
				continue
			}
			fmt.Fprintf(&c, "%.1f,%.1f ", marginLeft+ax.place(pt.X), bottom-ay.place(pt.Y))
		}
		c.WriteString("\"/>\n")
	}
	c.WriteString("</svg>\n")
	return c.Bytes()
}
