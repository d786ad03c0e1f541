package attach

import "time"

// Options say how much is measured.
type Options struct {
	// Subjects are those that are measured.
	Subjects []string
	// Rounds of one attachment, each of which is measured twice, and of one on a loaded
	// host.
	Rounds, LoadedRounds int
	// Ports are how many one container publishes at once, and PeerPorts how many a
	// peer's does.
	Ports, PeerPorts []int
	// ManyRounds of these.
	ManyRounds int
	// Burst is how many containers come at once, and Bursts how often.
	Burst, Bursts int
	Load          Load
	// Settle is the rest between two measurements, and Quiet that after filling.
	Settle, Quiet time.Duration
}

// Default is the full form.
func Default() Options {
	return Options{
		Subjects: Subjects,
		Rounds:   50, LoadedRounds: 100, Ports: []int{32, 1000, 10000}, PeerPorts: []int{32}, ManyRounds: 7,
		Burst: 100, Bursts: 5, Load: Load{Networks: 200, Bridges: 20, Endpoints: 1000, Ports: 20},
		// New endpoints solicit routers for 12 s.
		Settle: 20 * time.Millisecond, Quiet: 13 * time.Second,
	}
}

// Short is one in which everything is done once or twice.
func Short() Options {
	return Options{
		Subjects: Subjects,
		Rounds:   4, LoadedRounds: 6, Ports: []int{32, 1000}, PeerPorts: []int{32}, ManyRounds: 1,
		Burst: 20, Bursts: 1, Load: Load{Networks: 10, Bridges: 5, Endpoints: 50, Ports: 20},
		Settle: 20 * time.Millisecond,
	}
}

// manyRounds are more of few ports, whose cost is a small difference, and fewer of
// thousands.
func (o Options) manyRounds(ports int) int {
	switch {
	case ports < 100:
		return 4 * o.ManyRounds
	case ports >= 5000:
		return (o.ManyRounds + 1) / 2
	}
	return o.ManyRounds
}

// peerRounds are for those that need seconds.
func (o Options) peerRounds() int { return min(3, o.ManyRounds) }

// Long adds what peers need minutes for.
func (o Options) Long() Options {
	o.PeerPorts = append(o.PeerPorts[:len(o.PeerPorts):len(o.PeerPorts)], 1000)
	return o
}
