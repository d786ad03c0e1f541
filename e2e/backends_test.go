package e2e

import (
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// The firewall back ends: one rule model, so one behaviour.
const (
	nftables = "nftables"
	iptables = "iptables"
)

// backends are those that forBackends runs a test on.
var backends = []string{nftables, iptables}

// forBackends runs a test once for each firewall back end. The test makes its daemons
// with that back end: by newSiteOn, or by lab.DaemonOptions.Firewall.
func forBackends(t *testing.T, test func(t *testing.T, backend string)) {
	t.Helper()
	t.Parallel()
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			test(t, backend)
		})
	}
}

// forFaultBackends is forBackends for what breaks the daemon at every step: in short on
// the default back end alone.
func forFaultBackends(t *testing.T, test func(t *testing.T, backend string)) {
	t.Helper()
	if full() {
		forBackends(t, test)
		return
	}
	t.Parallel()
	test(t, nftables)
}

// chosen says whether a test of several choices, each by its number, runs a combination
// of them. In short it runs a diagonal: of each choice every alternative is met, and of
// the one that has more than two each is met once. All meet all in make attack and make
// faults.
func chosen(choices ...int) bool {
	for _, c := range choices {
		if c%2 != choices[0]%2 && !full() {
			return false
		}
	}
	return true
}

// newSiteOn is newSite with a firewall back end.
func newSiteOn(t *testing.T, backend string, daemonArgs ...string) *site {
	t.Helper()
	s := newHosts(t)
	s.startOn(backend, daemonArgs...)
	return s
}

// startOn starts the site's daemon with a firewall back end, and makes the image demo.
func (s *site) startOn(backend string, daemonArgs ...string) {
	s.t.Helper()
	o := lab.DaemonOptions{Args: daemonArgs}
	if backend != nftables { // which is the default
		o.Firewall = backend
	}
	s.Daemon = s.lab.Daemon(s.host, o)
	s.importImage("demo")
}
