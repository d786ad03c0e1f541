package main

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	ms := func(n ...int) []time.Duration {
		out := make([]time.Duration, len(n))
		for i, v := range n {
			out[i] = time.Duration(v) * time.Millisecond
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		samples []time.Duration
		q, want float64
	}{
		{"none", nil, 0.5, 0},
		{"one", ms(7), 0.99, 7},
		{"median of odd", ms(9, 1, 5), 0.5, 5},
		{"median of even is the lower", ms(4, 1, 3, 2), 0.5, 2},
		{"p99 of few is the largest", ms(1, 2, 3, 10), 0.99, 10},
		{"whole", ms(1, 2, 3), 1, 3},
	} {
		if got := quantile(tt.samples, tt.q); got != tt.want {
			t.Errorf("%s: quantile(%v, %g) = %g, want %g", tt.name, tt.samples, tt.q, got, tt.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		goal goal
		want string
	}{
		{goal{ratio: 2.5, bound: 2.5}, "met"},
		{goal{ratio: 2.6, bound: 2.5}, "**missed**"},
		{goal{ratio: 20, bound: 20, atLeast: true}, "met"},
		{goal{ratio: 19.9, bound: 20, atLeast: true}, "**missed**"},
	} {
		if got := tt.goal.verdict(); got != tt.want {
			t.Errorf("%+v: verdict %q, want %q", tt.goal, got, tt.want)
		}
	}
}
