package streams

// detector finds the detach keys in what a client types.
type detector struct {
	keys []byte
	// held is how many of the keys have been typed and are held back.
	held int
}

// filter returns what is not part of the keys, and whether they are complete;
// then what follows them is dropped. Keys that were begun and not completed
// come out before what broke them off.
func (d *detector) filter(in []byte) (out []byte, detached bool) {
	if len(d.keys) == 0 {
		return in, false
	}
	for _, c := range in {
		for d.held > 0 && d.keys[d.held] != c {
			// The end of what is held may be a beginning too: of "aab", "aaab"
			// has the last three.
			n := d.border()
			out = append(out, d.keys[:d.held-n]...)
			d.held = n
		}
		if d.keys[d.held] != c {
			out = append(out, c)
			continue
		}
		if d.held++; d.held == len(d.keys) {
			d.held = 0
			return out, true
		}
	}
	return out, false
}

// border is the length of the longest end of what is held, short of all of it,
// that the keys begin with.
func (d *detector) border() int {
	for n := d.held - 1; n > 0; n-- {
		if string(d.keys[:n]) == string(d.keys[d.held-n:d.held]) {
			return n
		}
	}
	return 0
}
