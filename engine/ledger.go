package engine

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// ledger is the store of records, each of which gets the number of its writing: of two
// records of a container the one with the higher number is the newer, whatever the
// clock says.
type ledger struct {
	Store
	last atomic.Uint64
}

// Put stores the record with the next number.
func (l *ledger) Put(id string, r Record) error {
	r.Revision = l.last.Add(1)
	return l.Store.Put(id, r)
}

// seen keeps numbers above that of a record.
func (l *ledger) seen(r Record) {
	for {
		last := l.last.Load()
		if last >= r.Revision || l.last.CompareAndSwap(last, r.Revision) {
			return
		}
	}
}

// containerd keeps a copy of each record in labels, of the container and of its
// snapshot, as of when they were last written: should the store be lost, what runs is
// known. A label has at most 4,096 bytes with its name (containerd, pkg/labels).
const (
	labelRecord = "io.fairlead/record."
	labelRoom   = 4000
)

// labels are the record with the next number, as labels.
func (l *ledger) labels(r Record) map[string]string {
	r.Revision = l.last.Add(1)
	raw, err := json.Marshal(r)
	if err != nil {
		return nil // it could not have been stored either
	}
	out := make(map[string]string, len(raw)/labelRoom+1)
	for i := 0; len(raw) > 0; i++ {
		n := min(labelRoom-len(labelRecord)-4, len(raw))
		for n < len(raw) && raw[n]&0xC0 == 0x80 { // not within a character
			n--
		}
		out[labelRecord+strconv.Itoa(i)], raw = string(raw[:n]), raw[n:]
	}
	return out
}

// fromLabels is the record that labels have; ok is false where they have none that is
// whole.
func fromLabels(id string, labels map[string]string) (r Record, ok bool) {
	var text strings.Builder
	for i := 0; ; i++ {
		part, more := labels[fmt.Sprint(labelRecord, i)]
		if !more {
			break
		}
		text.WriteString(part)
	}
	if text.Len() == 0 || json.Unmarshal([]byte(text.String()), &r) != nil {
		return Record{}, false
	}
	return r, r.complete(id)
}

// complete says whether the record is one of the container.
func (r Record) complete(id string) bool { return r.ID == id && r.Config != nil && r.HostConfig != nil }
