package portspec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cli/portspec"
)

// TestAsDocker holds the parser against that of Docker's own command line, over
// every combination of parts: what one takes, the other takes and means the same.
func TestAsDocker(t *testing.T) {
	t.Parallel()
	ips := []string{"", "0.0.0.0:", "127.0.0.1:", "[::1]:", "[::]:", "::1:", "[2001:db8::1]:", "300.0.0.1:", "host:", "[::1:"}
	hosts := []string{"none", "", "8080", "8000-8002", "8000-8001", "8001-8000", "0", "65535", "65536", "x", "-1", "8000-"}
	containers := []string{"80", "80-81", "80-82", "65535", "81-80", "65536", "x", ""}
	protocols := []string{"", "/tcp", "/UDP", "/sctp", "/icmp"}
	taken := 0
	for _, ip := range ips {
		for _, host := range hosts {
			for _, container := range containers {
				for _, proto := range protocols {
					value := ip + host + ":" + container + proto
					if host == "none" {
						value = ip + container + proto
					}
					if asDocker(t, value) {
						taken++
					}
				}
			}
		}
	}
	if taken < 400 {
		t.Errorf("only %d values were taken", taken)
	}
}

// asDocker says whether the value is taken.
func asDocker(t *testing.T, value string) bool {
	t.Helper()
	_, want, dockerErr := nat.ParsePortSpecs([]string{value})
	got, _, err := portspec.Publish([]string{value})
	if (err == nil) != (dockerErr == nil) {
		t.Errorf("%q: %v; Docker: %v", value, err, dockerErr)
		return false
	}
	if err != nil {
		return false
	}
	var lines []string
	for port, bindings := range want {
		for _, b := range bindings {
			if b.HostPort == "0" { // the same as none, to Docker's daemon too
				b.HostPort = ""
			}
			lines = append(lines, string(port)+"="+b.HostIP+"|"+b.HostPort)
		}
	}
	slices.Sort(lines)
	if diff := cmp.Diff(lines, flat(got)); diff != "" {
		t.Errorf("%q (-Docker +ours):\n%s", value, diff)
	}
	return true
}

// TestSmallPrint: what Docker takes and cannot mean is refused here.
func TestSmallPrint(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"0", "8080:0", "8080:80/", "0-5:80", "+8080:80", "[]:80:80"} {
		if _, _, err := nat.ParsePortSpecs([]string{value}); err != nil {
			t.Errorf("%q: Docker refuses it too: %v", value, err)
		}
		if _, _, err := portspec.Publish([]string{value}); err == nil || !strings.Contains(err.Error(), value) {
			t.Errorf("%q: %v", value, err)
		}
	}
}
