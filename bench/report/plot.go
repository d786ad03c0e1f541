package report

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"
)

// Plot is one picture: bars, or lines.
type Plot struct {
	// Name is the file's, without .svg: letters, digits and hyphens.
	Name string `json:"name"`
	// Title stands above it, and in place of it where pictures are not shown.
	Title string `json:"title"`
	// X and Y say what the axes count, and in which unit. Bars lie along X.
	X string `json:"-"`
	Y string `json:"-"`
	// LogX and LogY make an axis logarithmic. Values at or below zero are left out.
	LogX bool `json:"-"`
	LogY bool `json:"-"`
	// Bars are drawn one below the other, each with its figure.
	Bars []Bar `json:"-"`
	// Lines are drawn where there are no bars.
	Lines []Line `json:"-"`
}

// Bar is one figure.
type Bar struct {
	Label string
	Value float64
	// High, if it is more than Value, is drawn as a thin line from it: a p99, say.
	High float64
}

// Line is one series.
type Line struct {
	Name   string
	Points []Point
}

// Point is one value of a series.
type Point struct{ X, Y float64 }

var plotName = regexp.MustCompile(`^[a-z0-9-]+$`)

func (p Plot) drawable() bool { return len(p.Bars) > 0 || len(p.Lines) > 0 }

func (p Plot) check() error {
	if !plotName.MatchString(p.Name) || p.Title == "" {
		return fmt.Errorf("plot %q: want a name of small letters, digits and hyphens, and a title", p.Name)
	}
	for _, b := range p.Bars {
		if math.IsNaN(b.Value) || math.IsInf(b.Value, 0) || b.Value < 0 {
			return fmt.Errorf("plot %s: bar %s is %v", p.Name, b.Label, b.Value)
		}
	}
	return nil
}

// Share is the distribution of samples as a line: at each time, the percentage that
// took no longer. It has a hundred points at most.
func Share(name string, samples []time.Duration) Line {
	l := Line{Name: name}
	sorted := slices.Sorted(slices.Values(samples))
	const points = 100
	for i := range min(points, len(sorted)) {
		rank := (i+1)*len(sorted)/min(points, len(sorted)) - 1
		l.Points = append(l.Points, Point{Milliseconds(sorted[rank]), 100 * float64(rank+1) / float64(len(sorted))})
	}
	return l
}
