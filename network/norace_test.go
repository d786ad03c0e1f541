//go:build !race

package network

const slowness = 1
