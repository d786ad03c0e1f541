package spec

import "time"

// Mend is one thing that another program had changed and that was put back.
type Mend struct {
	Time time.Time `json:"time"`
	// Kind is what was changed: see Healing.Counts.
	Kind string `json:"kind"`
	// What was found, in one line.
	What string `json:"what"`
	// Took is from the kernel's word of the change to when it was undone; 0 where
	// nothing told and it was found by looking.
	Took time.Duration `json:"took"`
}

// Healing is what is known of the watch over what is ours on the host.
type Healing struct {
	// Paused: differences are noted and nothing is put back.
	Paused bool `json:"paused"`
	// Since is when it was paused.
	Since time.Time `json:"since,omitzero"`
	// Counts are how many times things were put back since the daemon started, by
	// kind, 0 of most of them: bridge, veth, route, sysctl, rules, foreign (in other
	// programs' chains and zones), namespace, port (a held one), loopback, fastpath, record, stray
	// (what was ours and is nobody's).
	Counts map[string]uint64 `json:"counts"`
	// Last are the latest, the newest first.
	Last []Mend `json:"last"`
	// Pending is what differs now, a line each.
	Pending []string `json:"pending"`
}
