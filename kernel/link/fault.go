package link

import (
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// requestNames are what fault points call requests.
var requestNames = map[uint16]string{
	unix.RTM_NEWLINK: "newlink", unix.RTM_SETLINK: "setlink", unix.RTM_DELLINK: "dellink", unix.RTM_GETLINK: "getlink",
	unix.RTM_NEWADDR: "newaddr", unix.RTM_DELADDR: "deladdr", unix.RTM_GETADDR: "getaddr",
	unix.RTM_NEWROUTE: "newroute", unix.RTM_DELROUTE: "delroute", unix.RTM_GETROUTE: "getroute",
	unix.RTM_GETRULE: "getrule", unix.RTM_GETMULTICAST: "getmulticast",
}

// fault is the error that a test wants at this request, link.NAME and a suffix.
func (r *request) fault(suffix string) error {
	if !faultpoint.Armed() {
		return nil
	}
	name := requestNames[r.typ]
	if name == "" {
		name = "other"
	}
	return faultpoint.Here("link." + name + suffix)
}
