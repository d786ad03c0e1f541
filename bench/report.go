package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// key names a series of measurements: a subject and what it did.
type key struct{ subject, kind string }

// series are the times of one key, in the order they were taken.
type series struct{ up, down []time.Duration }

// results are all series of one interleaved run.
type results map[key]*series

func (r results) add(subject, kind string, up, down time.Duration) {
	k := key{subject, kind}
	if r[k] == nil {
		r[k] = &series{}
	}
	r[k].up = append(r[k].up, up)
	r[k].down = append(r[k].down, down)
}

// quantile returns the value that q of the samples do not exceed (nearest
// rank), in milliseconds.
func quantile(samples []time.Duration, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return float64(sorted[max(rank, 0)]) / float64(time.Millisecond)
}

func (r results) median(subject, kind string) float64 {
	s := r[key{subject, kind}]
	if s == nil {
		return 0
	}
	return quantile(s.up, 0.5)
}

// report is everything one run of the bench found.
type report struct {
	options options
	attach  results
	runs    results
	memory  map[string]int64 // by subject, in bytes
	started time.Time
	took    time.Duration
	load    string
}

// described are the subjects of the first table in its order, and what is
// inside the clock of each.
var described = []struct{ subject, title, clock string }{
	{"floor", "bare netlink", "namespace, veth, address, up, default route; nothing else"},
	{"fairlead", "`network.Attach`", "the same, and the journal, the held port, the rules"},
	{"cni", "CNI bridge + portmap, `ADD`", "without the namespace, which is there before"},
	{"netavark", "`netavark setup`", "without the namespace and the choice of an address"},
}

// goal is a ratio to reach.
type goal struct {
	text    string
	ratio   float64
	bound   float64
	atLeast bool
}

func (g goal) verdict() string {
	if (g.atLeast && g.ratio >= g.bound) || (!g.atLeast && g.ratio > 0 && g.ratio <= g.bound) {
		return "met"
	}
	return "**missed**"
}

func (r *report) goals() []goal {
	a := func(subject string) float64 { return r.attach.median(subject, kindAttach) }
	bridge := func(subject string) float64 { return r.runs.median(subject, kindBridge) }
	port := func(subject string) float64 { return r.runs.median(subject, kindPort) }
	return []goal{
		{"`network.Attach` against the bare netlink floor", a("fairlead") / a("floor"), 2.5, false},
		{"CNI against `network.Attach`", a("cni") / a("fairlead"), 20, true},
		{"netavark against `network.Attach`", a("netavark") / a("fairlead"), 10, true},
		{"`network.Attach` loaded against not loaded", a("fairlead"+loaded) / a("fairlead"), 1.3, false},
		{"`docker run --rm` against `fairlead run --rm`, on the bridge", bridge("docker-run") / bridge("fairlead-run"), 2, true},
		{"`docker run --rm -p`: on dockerd against on Fairlead, by Docker's client", port("docker-run") / port("fairlead-by-docker"), 2.5, true},
		{"memory with the containers below: ours against dockerd's", float64(r.memory["fairlead-run"]) / float64(r.memory["docker-run"]), 0.5, false},
	}
}

// markdown renders the report.
func (r *report) markdown(ctx context.Context) (string, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Results\n\nWritten by `make bench`; nothing here is typed by hand. All subjects of a table were measured in one\n"+
		"run, each once a round, in an order drawn anew each round: trust the ratios before the times.\n\n")
	if err := r.machine(ctx, &b); err != nil {
		return "", err
	}
	r.goalTable(&b)
	r.attachTable(&b)
	r.runTable(&b)
	r.memoryTable(&b)
	return b.String(), nil
}

func (r *report) goalTable(b *bytes.Buffer) {
	fmt.Fprint(b, "\n## Goals\n\n| ratio of medians | measured | goal | |\n|---|---:|---:|---|\n")
	for _, g := range r.goals() {
		if math.IsNaN(g.ratio) || math.IsInf(g.ratio, 0) || g.ratio == 0 {
			continue // a subject was left out by -only
		}
		sign := "≤"
		if g.atLeast {
			sign = "≥"
		}
		fmt.Fprintf(b, "| %s | %.2f | %s %g | %s |\n", g.text, g.ratio, sign, g.bound, g.verdict())
	}
}

func (r *report) attachTable(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## One attachment with one published port\n\n%d rounds after one that is not counted. Loaded: %d endpoints with %d published ports\n"+
		"each are there already (for the floor, endpoints alone), and × floor is against the loaded floor.\n\n", r.options.rounds, r.options.endpoints, r.options.ports)
	fmt.Fprint(b, "| subject | median ms | p99 ms | × floor | detach, median ms | inside the clock |\n|---|---:|---:|---:|---:|---|\n")
	for _, state := range []string{"", loaded} {
		floor := r.attach.median("floor"+state, kindAttach)
		for _, d := range described {
			s := r.attach[key{d.subject + state, kindAttach}]
			if s == nil {
				continue
			}
			title := d.title
			if state != "" {
				title += ", loaded"
			}
			up := quantile(s.up, 0.5)
			fmt.Fprintf(b, "| %s | %.2f | %.2f | %.2f | %.2f | %s |\n",
				title, up, quantile(s.up, 0.99), up/floor, quantile(s.down, 0.5), d.clock)
		}
	}
}

func (r *report) runTable(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## One container: `run --rm demo true`\n\nThe same image of one static busybox; the whole command, from its start to its end. %d rounds.\n\n", r.options.runs)
	fmt.Fprint(b, "| network | Fairlead, median ms | p99 ms | Docker's client on Fairlead, median ms | p99 ms | Docker, median ms | p99 ms | Docker / Fairlead | Docker / its client on Fairlead |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, k := range []struct{ kind, title string }{
		{kindNone, "none"}, {kindBridge, "bridge"}, {kindPort, "bridge, `-p 8080:80`"},
	} {
		ours, theirs := r.runs[key{"fairlead-run", k.kind}], r.runs[key{"docker-run", k.kind}]
		both := r.runs[key{"fairlead-by-docker", k.kind}]
		if ours == nil || theirs == nil || both == nil {
			continue // left out by -only
		}
		fmt.Fprintf(b, "| %s | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %.2f | %.2f |\n", k.title,
			quantile(ours.up, 0.5), quantile(ours.up, 0.99), quantile(both.up, 0.5), quantile(both.up, 0.99), quantile(theirs.up, 0.5), quantile(theirs.up, 0.99),
			quantile(theirs.up, 0.5)/quantile(ours.up, 0.5), quantile(theirs.up, 0.5)/quantile(both.up, 0.5))
	}
}

func (r *report) memoryTable(b *bytes.Buffer) {
	ours, theirs := r.memory["fairlead-run"], r.memory["docker-run"]
	if ours == 0 || theirs == 0 {
		return // left out by -only
	}
	fmt.Fprintf(b, "\n## Memory with %d running containers\n\nEach publishes one port. Daemon, helpers and proxies, without containerd, shims and the containers, on both\n"+
		"sides; proportional shares (Pss).\n\n| Fairlead, MiB | Docker, MiB | Fairlead / Docker |\n|---:|---:|---:|\n| %.1f | %.1f | %.2f |\n",
		r.options.containers, float64(ours)/(1<<20), float64(theirs)/(1<<20), float64(ours)/float64(theirs))
}

// machine says where and on what the numbers were taken.
func (r *report) machine(ctx context.Context, b *bytes.Buffer) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	var packages []string
	for _, name := range []string{"containerd", "runc", "docker.io", "netavark", "containernetworking-plugins"} {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Package} ${Version}", name).Output()
		if err != nil {
			return fmt.Errorf("the version of %s: %w", name, err)
		}
		packages = append(packages, string(out))
	}
	version, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		version = []byte("unknown")
	}
	for _, line := range [][2]string{
		{"Date", r.started.UTC().Format(time.DateOnly + " 15:04 UTC")},
		{"Fairlead", strings.TrimSpace(string(version)) + ", " + runtime.Version()},
		{"Machine", fmt.Sprintf("%s, %d cores, %s of memory", firstField("/proc/cpuinfo", "model name"), runtime.NumCPU(), memory())},
		{"Kernel", unix.ByteSliceToString(u.Release[:])},
		{"System", strings.Trim(firstField("/etc/os-release", "PRETTY_NAME"), `"`)},
		{"Packages", strings.Join(packages, ", ")},
		{"Load average before", r.load},
		{"Took", r.took.Round(time.Second).String()},
	} {
		fmt.Fprintf(b, "- %s: %s\n", line[0], line[1])
	}
	return nil
}

// firstField reads the value of the first line "name : value" or "name=value".
func firstField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Trim(rest, " \t:=\n")
		}
	}
	return "unknown"
}

func memory() string {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", float64(info.Totalram)*float64(info.Unit)/(1<<30))
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
