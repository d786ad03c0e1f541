package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
	xterm "golang.org/x/term"

	"github.com/fairlead/fairlead/traffic"
)

// rateTables are the report's tables, line by line.
func rateTables(r traffic.Report) [][]string {
	table := func(head string, rows int, row func(i int) []string) []string {
		var out bytes.Buffer
		tw := tabwriter.NewWriter(&out, 0, 1, 2, ' ', 0)
		fmt.Fprintln(tw, head)
		for i := range rows {
			fmt.Fprintln(tw, strings.Join(row(i), "\t"))
		}
		_ = tw.Flush() // to memory
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		for i := range lines {
			lines[i] = strings.TrimRight(lines[i], " ")
		}
		return lines
	}
	return [][]string{
		table("CONTAINER\tNETWORK\tRX/S\tTX/S\tRX PKT/S\tTX PKT/S\tDROP/S", len(r.Containers), func(i int) []string {
			c := r.Containers[i]
			return append([]string{strings.Join(append([]string{c.Name}, c.SharedBy...), "+"), strings.Join(c.Networks, ",")}, ratesCells(c.Rates)...)
		}),
		table("NETWORK\tCONTAINERS\tRX/S\tTX/S\tRX PKT/S\tTX PKT/S\tDROP/S\tFROM HOST/S\tTO HOST/S", len(r.Networks), func(i int) []string {
			n := r.Networks[i]
			return append(append([]string{n.Name, strconv.Itoa(n.Containers)}, ratesCells(n.Rates)...), bytesCell(n.In), bytesCell(n.Out))
		}),
		table("PORT\tCONTAINER\tNEW/S\tOPEN\tPROXIED\tBYTES/S", len(r.Ports), func(i int) []string {
			p := r.Ports[i]
			return []string{portCell(p), p.Container, numberCell(p.Connections), numberCell(p.Open), numberCell(p.Proxied), bytesCell(p.Bytes)}
		}),
		table("PROCESS\tPID\tCPU\tMEMORY", len(r.Processes), func(i int) []string {
			p := r.Processes[i]
			cpu := "-"
			if p.CPU.Known() {
				cpu = fmt.Sprintf("%.1f%%", 100*float64(p.CPU))
			}
			return []string{p.Name, strconv.Itoa(p.PID), cpu, units.BytesSize(float64(p.Memory))}
		}),
	}
}

func ratesCells(r traffic.Rates) []string {
	return []string{bytesCell(r.ReceivedBytes), bytesCell(r.SentBytes), numberCell(r.ReceivedPackets), numberCell(r.SentPackets), numberCell(r.Drops)}
}

func bytesCell(r traffic.Rate) string {
	if !r.Known() {
		return "-"
	}
	return units.HumanSizeWithPrecision(float64(r), 3)
}

func numberCell(r traffic.Rate) string {
	switch {
	case !r.Known():
		return "-"
	case r == 0:
		return "0"
	case r < 10:
		return strings.TrimSuffix(strconv.FormatFloat(float64(r), 'f', 1, 64), ".0")
	case r < 100_000:
		return strconv.FormatFloat(float64(r), 'f', 0, 64)
	}
	return units.CustomSize("%.3g%s", float64(r), 1000, []string{"", "k", "M", "G"})
}

// portCell is as fairlead ps has it.
func portCell(p traffic.PortRate) string {
	if p.Host == "" {
		return p.Target + "/" + p.Proto
	}
	return p.Host + "->" + p.Target + "/" + p.Proto
}

// ratesScreen returns what shows a report, and what is to be called at the end. On a
// terminal it draws over what was drawn before, on a screen of its own, and quit is called
// when q is typed.
func (a *app) ratesScreen(f rateFlags, quit func()) (show func(traffic.Report) error, end func(), err error) {
	nothing := func() {}
	if f.format != "" {
		return func(r traffic.Report) error { return a.printOwn(r, f.format) }, nothing, nil
	}
	if _, _, terminal := a.terminalSize(); !terminal || f.tables > 0 {
		first := true
		return func(r traffic.Report) error {
			if !first {
				fmt.Fprintln(a.Out)
			}
			first = false
			_, err := io.WriteString(a.Out, ratesHeader(r, f)+"\n"+text(rateTables(r)))
			return err
		}, nothing, nil
	}
	restore, err := a.oneKey('q', quit)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprint(a.Out, "\x1b[?1049h\x1b[?25l") // another screen, without a cursor (xterm's ctlseqs)
	return func(r traffic.Report) error {
			height, width, _ := a.terminalSize()
			lines := append([]string{ratesHeader(r, f) + "; q ends it"}, strings.Split(strings.TrimSuffix(text(fit(rateTables(r), int(height)-1)), "\n"), "\n")...)
			_, err := io.WriteString(a.Out, "\x1b[H"+drawn(lines, int(height), int(width))+"\x1b[J")
			return err
		}, func() {
			fmt.Fprint(a.Out, "\x1b[?25h\x1b[?1049l")
			restore()
		}, nil
}

func ratesHeader(r traffic.Report, f rateFlags) string {
	return fmt.Sprintf("%s, over %.3g s, by %s", r.Time.Local().Format("15:04:05"), r.Seconds, f.sort)
}

// text are the tables one below the other.
func text(tables [][]string) string {
	var out strings.Builder
	for i, t := range tables {
		if i > 0 {
			out.WriteByte('\n')
		}
		for _, line := range t {
			out.WriteString(line)
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// fit leaves out rows of the longest tables until there are no more lines than that, and
// says of how many.
func fit(tables [][]string, height int) [][]string {
	left := make([]int, len(tables))
	for total := len(tables) - 1 + count(tables); total > height; total-- {
		longest := 0
		for i := range tables {
			if len(tables[i]) > len(tables[longest]) {
				longest = i
			}
		}
		t := tables[longest]
		if len(t) <= 3 {
			break
		}
		if left[longest]++; left[longest] == 1 {
			left[longest]++ // the line that says so takes a row's place
		}
		t = append(t[:len(t)-2:len(t)-2], fmt.Sprintf("… and %d more", left[longest]))
		tables[longest] = t
	}
	return tables
}

func count(tables [][]string) (n int) {
	for _, t := range tables {
		n += len(t)
	}
	return n
}

// drawn are lines for a terminal of that size, each of which ends where it is cut.
func drawn(lines []string, height, width int) string {
	var out strings.Builder
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			out.WriteByte('\n')
		}
		cut := []rune(line)
		out.WriteString(string(cut[:min(len(cut), width)]) + "\x1b[K")
	}
	return out.String()
}

// oneKey calls then when the key is typed at our terminal, which no longer shows what is
// typed until restore is called. Input that is no terminal is left alone.
func (a *app) oneKey(key byte, then func()) (restore func(), err error) {
	file, isFile := a.stdinFile()
	if !isFile || !xterm.IsTerminal(int(file.Fd())) {
		return func() {}, nil
	}
	fd := int(file.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read the terminal's settings: %w", err)
	}
	now := *was
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &now); err != nil {
		return nil, fmt.Errorf("set the terminal up: %w", err)
	}
	go watchFor(file, key, then) // until the process ends
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) }, nil
}

func watchFor(in *os.File, key byte, then func()) {
	for b := make([]byte, 16); ; {
		n, err := in.Read(b)
		if bytes.IndexByte(b[:n], key) >= 0 {
			then()
		}
		if err != nil {
			return
		}
	}
}
