package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestLargeRanges: ranges of a thousand and of ten thousand ports are published at once,
// with and without the userland proxy; they survive a crash, and are free when the
// container is gone. In short the long one is with the proxy and the other without; make
// faults has both with both.
func TestLargeRanges(t *testing.T) {
	t.Parallel()
	for i, proxy := range []bool{false, true} {
		t.Run(fmt.Sprintf("proxy=%v", proxy), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, proxyFlag(proxy))
			s.Must("network", "create", "--ipv6", "dual")
			for j, n := range []int{1000, 10000} {
				if !chosen(i, j) {
					continue
				}
				first, last := 20000, 20000+n-1
				begun, cpu := time.Now(), s.cpu()
				// Ten thousand of both families are more sockets than some limits allow.
				address := map[bool]string{true: "0.0.0.0:"}[n > 1000]
				b := s.idle("--network", "dual", "-p", fmt.Sprintf("%s%d-%d:30000-%d", address, first, last, 30000+n-1))
				up, cpuUp := time.Since(begun), s.cpu()-cpu
				for _, port := range []int{0, n / 2, n - 1} {
					b.serve("tcp", fmt.Sprintf("0.0.0.0:%d", 30000+port))
					host := itoa(first + port)
					b.sees(s.outside, "tcp", at(host4, host), outside4)
					if r := lab.Seen(t, s.host, "tcp", at("127.0.0.1", host)); r.Host != b.Name() {
						t.Errorf("%s answered at %s", r.Host, host)
					}
				}
				s.consistent()
				s.Kill()
				s.Start()
				b.sees(s.outside, "tcp", at(host4, itoa(last)), outside4)
				s.consistent()
				begun, cpu = time.Now(), s.cpu()
				s.Must("rm", "-f", b.id)
				down, cpuDown := time.Since(begun), s.cpu()-cpu
				s.host.Listen("tcp", at("0.0.0.0", itoa(last))).Close()
				t.Logf("%d ports: up in %s, down in %s; of processor time %s and %s", n, up, down, cpuUp, cpuDown)
				if up > 30*time.Second || down > 30*time.Second {
					t.Errorf("%d ports: up in %s, down in %s", n, up, down)
				}
			}
			s.consistent()
		})
	}
}

// cpu is how long the daemon and its relay have had a processor.
func (s *site) cpu() (sum time.Duration) {
	s.t.Helper()
	for _, pid := range append(s.relays(), s.PID()) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			s.t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest) // from the third on; utime is the 14th, in 1/100 s
		for _, ticks := range f[11:13] {
			n, err := strconv.Atoi(ticks)
			if err != nil {
				s.t.Fatal(err)
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
