package report

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Number shows a figure with three digits that count, and with commas between
// thousands.
func Number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	if v < 0 {
		return "-" + Number(-v)
	}
	digits := 0
	for limit := 100.0; v != 0 && v < limit && digits < 6; limit /= 10 {
		digits++
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	whole, part, broken := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if part = strings.TrimRight(part, "0"); !broken || part == "" {
		return whole
	}
	return whole + "." + part
}

// Cell shows a figure in a column: as Number does, but for zeroes at the end, which keep
// a column of like figures readable.
func Cell(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return Number(math.Round(v))
}

// Milliseconds is a time in milliseconds.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Quantile returns the value that q of the samples do not exceed (nearest rank), in
// milliseconds; 0 of none.
func Quantile(samples []time.Duration, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return Milliseconds(sorted[max(rank, 0)])
}

// Median is the quantile of a half.
func Median(samples []time.Duration) float64 { return Quantile(samples, 0.5) }

// Middle is the lower median of numbers; 0 of none.
func Middle(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
