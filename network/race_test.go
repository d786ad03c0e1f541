//go:build race

package network

// slowness is how many times the processor time the race detector takes.
const slowness = 4
