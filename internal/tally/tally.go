// Package tally counts durations without a lock, for whoever reads them later: in this
// process, or in another that is told by JSON.
//
// It knows no names, no labels and no form of output.
package tally

import (
	"slices"
	"sync/atomic"
	"time"
)

// Bounds are the upper ends of the classes of durations, the last of which is open: from
// what a query costs that is answered from memory to what nobody waits for.
var Bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Durations counts durations by class. The zero value is ready; its methods may be called
// by several goroutines at once.
type Durations struct {
	classes [len(Bounds) + 1]atomic.Uint64
	sum     atomic.Int64
}

// Observe counts one: two atomic additions.
func (d *Durations) Observe(took time.Duration) {
	took = max(took, 0) // a clock that is set back
	i, _ := slices.BinarySearch(Bounds[:], took)
	d.classes[i].Add(1)
	d.sum.Add(int64(took))
}

// Read returns what has been counted. What is counted meanwhile may be in Sum and not
// in Classes, or the other way.
func (d *Durations) Read() Observed {
	out := Observed{Sum: time.Duration(d.sum.Load()), Classes: make([]uint64, len(d.classes))}
	for i := range d.classes {
		out.Classes[i] = d.classes[i].Load()
	}
	return out
}

// Observed is what was counted.
type Observed struct {
	// Classes are how many were longer than the bound before and not longer than that of
	// the same index; the last is those longer than all. Nil is none.
	Classes []uint64      `json:"classes,omitempty"`
	Sum     time.Duration `json:"sum,omitempty"`
}

// Count is how many there were.
func (o Observed) Count() (n uint64) {
	for _, c := range o.Classes {
		n += c
	}
	return n
}

// UpTo is how many were not longer than each of Bounds.
func (o Observed) UpTo() map[time.Duration]uint64 {
	out := make(map[time.Duration]uint64, len(Bounds))
	var n uint64
	for i, bound := range Bounds {
		if i < len(o.Classes) {
			n += o.Classes[i]
		}
		out[bound] = n
	}
	return out
}
