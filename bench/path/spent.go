package path

import (
	"fmt"

	"github.com/fairlead/fairlead/bench/work"
)

// spent is the processor time that a server and the processes of the userland proxy have taken.
func (h *host) spent(server int) (s sample, err error) {
	if s.Server, err = work.OfProcess(fmt.Sprintf("/proc/%d", server)); err != nil || h.proxy == nil {
		return s, err
	}
	err = each(h.proxy, func(dir string) error {
		t, err := work.OfProcess(dir)
		s.Proxy += t
		return err
	})
	return s, err
}
