package path

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// lostFlows is how often the host's kernel had no room for a connection in its table, and
// dropped a packet or forgot another connection.
func lostFlows() (uint64, error) {
	text, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
	if err != nil {
		return 0, err
	}
	return parseLostFlows(string(text))
}

// parseLostFlows reads it from /proc/net/stat/nf_conntrack: a line of names, and a line of
// hexadecimal numbers for each processor.
func parseLostFlows(text string) (total uint64, err error) {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if names == nil {
			names = fields
			continue
		}
		for _, name := range []string{"drop", "early_drop"} {
			i := slices.Index(names, name)
			if i < 0 || i >= len(fields) {
				return 0, fmt.Errorf("/proc/net/stat/nf_conntrack has no %s", name)
			}
			n, err := strconv.ParseUint(fields[i], 16, 64)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}
