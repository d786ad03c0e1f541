package metrics

import (
	"github.com/fairlead/fairlead/internal/tally"
	"github.com/fairlead/fairlead/relay"
)

// Reading is what is so at one moment.
type Reading struct {
	// Containers are how many there are, by state.
	Containers map[string]int
	Networks   []Network
	// Restored is how long it took to make the network stand at the daemon's start, in
	// seconds.
	Restored float64
	// Healed is how many times things were put back, by kind.
	Healed map[string]uint64
	// Paused says that nothing is.
	Paused bool
	// Surveys are looks at the host for what other programs changed.
	Surveys tally.Observed
	// Unended are operations of which something is left to take away.
	Unended int
	// Dropped is what containers were kept from sending, by reason; nil where it cannot be
	// read.
	Dropped map[string]Dropped
	// Relay is what it has done; nil where it did not answer.
	Relay *relay.Counters
	// Writes are values written to the store, Commits its transactions; Records are those
	// of the journal.
	Writes  uint64
	Commits tally.Observed
	Records uint64
	// Helpers are the processes beside the daemon, by name, that are running.
	Helpers map[string]Process
}

// Network is one network.
type Network struct {
	Name      string
	Endpoints int
	// Families are by "ipv4" and "ipv6", those that it has.
	Families map[string]Addresses
}

// Addresses are how many are taken, and how many can be given yet.
type Addresses struct{ InUse, Available uint64 }

// Dropped counts packets that were dropped.
type Dropped struct{ Packets, Bytes uint64 }

// Process is what a process takes.
type Process struct {
	// Memory is what is resident, in bytes, and Seconds the processor time.
	Memory, Seconds float64
}
