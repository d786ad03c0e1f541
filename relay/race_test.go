//go:build race

package relay

// raceEnabled: memory is not measured under the race detector.
const raceEnabled = true
