package load

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// sent are the TCP segments of a namespace, and those of them that were sent again.
type sent struct{ sent, again uint64 }

// segments reads the counters of the calling thread's namespace.
func segments() (s sent, err error) {
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return s, err
	}
	return parseSegments(string(text))
}

// parseSegments reads them from /proc/net/snmp: for each protocol a line of names and one of
// values.
func parseSegments(text string) (s sent, err error) {
	var lines [][]string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == "Tcp:" {
			lines = append(lines, fields)
		}
	}
	if len(lines) != 2 || len(lines[0]) != len(lines[1]) {
		return s, fmt.Errorf("/proc/net/snmp has %d lines of TCP, want names and values", len(lines))
	}
	for name, at := range map[string]*uint64{"OutSegs": &s.sent, "RetransSegs": &s.again} {
		i := slices.Index(lines[0], name)
		if i < 0 {
			return s, fmt.Errorf("/proc/net/snmp has no %s", name)
		}
		if *at, err = strconv.ParseUint(lines[1][i], 10, 64); err != nil {
			return s, err
		}
	}
	return s, nil
}
