package link

import "golang.org/x/sys/unix"

// KnownParameters are all that Link.Parameter knows.
func KnownParameters() (out []Parameter) {
	for name := range numbers4 {
		out = append(out, Parameter{Name: name})
	}
	for name := range numbers6 {
		out = append(out, Parameter{V6: true, Name: name})
	}
	return out
}

// AddDSCPRule makes a rule by DSCP (`ip rule add dscp DSCP lookup main`).
func (h *Handle) AddDSCPRule(family, dscp byte) error {
	r := &request{typ: unix.RTM_NEWRULE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: make([]byte, sizeofRule)}
	r.body[0], r.body[4], r.body[7] = family, unix.RT_TABLE_MAIN, unix.FR_ACT_TO_TBL
	_, err := h.c.one(r.attr(fraDSCP, []byte{dscp}))
	return err
}
