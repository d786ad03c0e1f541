package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/traffic"
)

func TestRateCells(t *testing.T) {
	t.Parallel()
	for r, want := range map[traffic.Rate]string{0: "0", 0.5: "0.5", 3: "3", 9.96: "10", 42.4: "42", 99_999: "99999", 1_234_567: "1.23M"} {
		if got := numberCell(r); got != want {
			t.Errorf("%v is shown as %s, want %s", float64(r), got, want)
		}
	}
	if numberCell(traffic.Unknown) != "-" || bytesCell(traffic.Unknown) != "-" || bytesCell(1234) != "1.23kB" {
		t.Errorf("%s %s %s", numberCell(traffic.Unknown), bytesCell(traffic.Unknown), bytesCell(1234))
	}
}

func TestRateTables(t *testing.T) {
	t.Parallel()
	r := traffic.Report{
		Containers: []traffic.ContainerRate{{Name: "web", SharedBy: []string{"side"}, Networks: []string{"back", "vault"}, Rates: traffic.Rates{ReceivedBytes: 2000, SentBytes: traffic.Unknown, Drops: 1.5}}},
		Ports: []traffic.PortRate{
			{Container: "web", Proto: "tcp", Host: "0.0.0.0:8080", Target: "10.0.0.2:80", Connections: 3, Open: 7, Proxied: 1, Bytes: traffic.Unknown},
			{Container: "web", Proto: "udp", Target: "[fd00::2]:53", Connections: traffic.Unknown, Open: traffic.Unknown, Proxied: traffic.Unknown, Bytes: traffic.Unknown},
		},
		Processes: []traffic.ProcessRate{{Name: "relay", PID: 7, Memory: 1 << 20, CPU: 0.125}},
	}
	want := `CONTAINER  NETWORK     RX/S  TX/S  RX PKT/S  TX PKT/S  DROP/S
web+side   back,vault  2kB   -     0         0         1.5

NETWORK  CONTAINERS  RX/S  TX/S  RX PKT/S  TX PKT/S  DROP/S  FROM HOST/S  TO HOST/S

PORT                           CONTAINER  NEW/S  OPEN  PROXIED  BYTES/S
0.0.0.0:8080->10.0.0.2:80/tcp  web        3      7     1        -
[fd00::2]:53/udp               web        -      -     -        -

PROCESS  PID  CPU    MEMORY
relay    7    12.5%  1MiB
`
	if got := text(rateTables(r)); got != want {
		t.Errorf("drawn\n%s\nwant\n%s", got, want)
	}
}

// TestFit: what does not fit on the screen goes from the longest tables, and is counted.
func TestFit(t *testing.T) {
	t.Parallel()
	tables := func(rows ...int) (out [][]string) {
		for i, n := range rows {
			table := []string{fmt.Sprint("HEAD", i)}
			for j := range n {
				table = append(table, fmt.Sprint(i, ".", j))
			}
			out = append(out, table)
		}
		return out
	}
	for _, tt := range []struct {
		rows   []int
		height int
		lines  int
		shown  string
	}{
		{[]int{2, 2}, 10, 7, "1.1"},
		{[]int{2, 2}, 7, 7, "1.1"},
		{[]int{20, 2}, 10, 10, "… and 16 more"},
		{[]int{20, 2}, 24, 24, "… and 2 more"},
		{[]int{9, 9}, 11, 11, "… and 6 more"},
		{[]int{9, 9}, 2, 7, "… and 8 more"}, // no less can be shown
	} {
		shown := strings.Split(strings.TrimSuffix(text(fit(tables(tt.rows...), tt.height)), "\n"), "\n")
		if len(shown) != tt.lines || !slices.Contains(shown, tt.shown) {
			t.Errorf("%v in %d lines: %d lines, %q", tt.rows, tt.height, len(shown), shown)
		}
	}
	if got := drawn([]string{"abcdef", "ü…x", "gone"}, 2, 3); got != "abc\x1b[K\nü…x\x1b[K" {
		t.Errorf("drawn as %q", got)
	}
}

// TestFollow: pairs come in their order; an answer that ends too soon is an error.
func TestFollow(t *testing.T) {
	t.Parallel()
	lines := `{"containers":[{"name":"1"}]}` + "\n" + `{"containers":[{"name":"2"}]}` + "\n" + `{"containers":[{"name":"3"}]}` + "\n"
	for pairs, fails := range map[int]bool{2: false, 0: true, 3: true} {
		var seen string
		err := follow(strings.NewReader(lines), pairs, func(before, after traffic.Sample) error {
			seen += before.Containers[0].Name + after.Containers[0].Name + " "
			return nil
		})
		if seen != "12 23 " || (err != nil) != fails {
			t.Errorf("%d pairs: %s, %v", pairs, seen, err)
		}
	}
	if err := follow(strings.NewReader(lines[:len(lines)-9]), 2, func(_, _ traffic.Sample) error { return nil }); err == nil {
		t.Error("a line that is cut is no error")
	}
}
