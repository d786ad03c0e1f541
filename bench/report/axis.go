package report

import "math"

// axis leads from values to places along a length, in pixels.
type axis struct {
	low, high float64
	log       bool
	length    float64
}

// newAxis makes an axis that all values are on. One that is not logarithmic begins at
// zero.
func newAxis(values []float64, log bool, length float64) axis {
	a := axis{log: log, length: length, low: math.Inf(1), high: math.Inf(-1)}
	for _, v := range values {
		if log && v <= 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		a.low, a.high = min(a.low, v), max(a.high, v)
	}
	if a.low > a.high { // there are none
		a.low, a.high = 1, 1
	}
	if log {
		a.low, a.high = power(math.Floor(math.Log10(a.low))), power(math.Ceil(math.Log10(a.high)))
		if a.low == a.high {
			a.high *= 10
		}
		return a
	}
	step := stepOf(max(a.high, 0))
	a.low, a.high = min(0, math.Floor(a.low/step)*step), math.Ceil(a.high/step)*step
	if a.low == a.high {
		a.high = 1
	}
	return a
}

func power(n float64) float64 { return math.Pow(10, n) }

// stepOf is a round number of which four to ten make up the value.
func stepOf(value float64) float64 {
	if value <= 0 {
		return 1
	}
	step := power(math.Floor(math.Log10(value)))
	for _, part := range []float64{0.2, 0.5, 1} {
		if value/(step*part) <= 7 {
			return step * part
		}
	}
	return step * 2
}

// place is where the value is; one below the axis is at its beginning.
func (a axis) place(v float64) float64 {
	if a.log {
		if v <= a.low {
			return 0
		}
		return a.length * (math.Log10(v) - math.Log10(a.low)) / (math.Log10(a.high) - math.Log10(a.low))
	}
	return a.length * (v - a.low) / (a.high - a.low)
}

// ticks are the values that are named along the axis.
func (a axis) ticks() (out []float64) {
	if a.log {
		for v := a.low; v <= a.high*1.001; v *= 10 {
			out = append(out, v)
		}
		return out
	}
	step := stepOf(a.high)
	for i := 0.0; a.low+i*step <= a.high+step/1000; i++ {
		out = append(out, a.low+i*step)
	}
	return out
}
