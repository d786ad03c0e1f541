package link_test

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/link"
)

// routedByDSCP wants the answer to be want.
func routedByDSCP(t *testing.T, h *link.Handle, want bool, when string) {
	t.Helper()
	if got, err := h.RoutedByDSCP(); err != nil || got != want {
		t.Errorf("%s: %v, %v, want %v", when, got, err, want)
	}
}

// TestRoutedByDSCP: a rule by TOS of either family is found, among others and while it is
// there.
func TestRoutedByDSCP(t *testing.T) {
	t.Parallel()
	host := lab.New(t).Host("host")
	_, h := open(t, host.Path())
	routedByDSCP(t, h, false, "the kernel's own rules")
	for _, family := range []string{"-4", "-6"} {
		for _, r := range []string{"ipproto tcp dport 443", "fwmark 0x10/0xff", "iif lo", "priority 25"} {
			host.Run("ip", append([]string{family, "rule", "add", "lookup", "100"}, strings.Fields(r)...)...)
		}
	}
	routedByDSCP(t, h, false, "rules by other things")
	for _, family := range []string{"-4", "-6"} {
		for _, not := range []string{"", "not"} {
			rule := strings.Fields(not + " tos 0x10 lookup 100")
			host.Run("ip", append([]string{family, "rule", "add"}, rule...)...)
			routedByDSCP(t, h, true, family+" "+not)
			host.Run("ip", append([]string{family, "rule", "del"}, rule...)...)
			routedByDSCP(t, h, false, family+" without")
		}
	}
}

// TestRoutedByWholeDSCP: a rule by DSCP is found, and by none, which older ip(8) cannot
// make.
func TestRoutedByWholeDSCP(t *testing.T) {
	t.Parallel()
	if !since(t, 6, 12) {
		t.Skip("rules by DSCP are of Linux 6.12")
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		for _, dscp := range []byte{0, 10} {
			host := lab.New(t).Host("host")
			_, h := open(t, host.Path())
			must(t, h.AddDSCPRule(family, dscp))
			routedByDSCP(t, h, true, "family "+strconv.Itoa(int(family))+", DSCP "+strconv.Itoa(int(dscp)))
		}
	}
}

// since says whether the kernel is of that version or a later one.
func since(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	must(t, unix.Uname(&u))
	parts := strings.FieldsFunc(unix.ByteSliceToString(u.Release[:]), func(r rune) bool { return r < '0' || r > '9' })
	a, err := strconv.Atoi(parts[0])
	must(t, err)
	b, err := strconv.Atoi(parts[1])
	must(t, err)
	return a > major || a == major && b >= minor
}
