package lab

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// inventory is what a host has that a daemon could leave behind: lines of text as
// ip(8), nft(8) and iptables(8) give them, and the sysctls.
type inventory struct {
	lines   []string
	sysctls map[string]string
}

// volatile sysctls change by themselves, or with the links that come and go; so do all of
// the folders neigh.
var volatile = regexp.MustCompile(`_count$|flush$|_key$|_mem$`)

// passing is what the kernel adds to and takes from lines by itself.
var passing = regexp.MustCompile(`( linkdown| dead| expires \d+sec|\[\d+:\d+\])`)

// take reads the inventory with the tools a person would use.
func (h *Host) take() *inventory {
	inv := &inventory{lines: h.links(), sysctls: map[string]string{}}
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(h.Try("ip", family, "route", "show", "table", "all").Stdout) {
			if !strings.Contains(line, "table local") && !strings.HasPrefix(line, "fe80::") && !strings.Contains(line, "ff00::/8") {
				inv.add("route", line)
			}
		}
		for line := range strings.Lines(h.Try("ip", family, "rule").Stdout) {
			inv.add("rule", line)
		}
	}
	table := ""
	for line := range strings.Lines(h.Try("nft", "--stateless", "list", "ruleset").Stdout) {
		if strings.HasPrefix(line, "table ") {
			table = strings.TrimSuffix(strings.TrimSpace(line), " {")
		}
		if text := strings.TrimSpace(line); text != "" && text != "}" {
			inv.add(table, text)
		}
	}
	for _, tool := range []string{"iptables", "ip6tables"} {
		// Only where it has tables: to look makes them.
		names := strings.Replace(tool, "tables", "_tables", 1) + "_names"
		var have []byte
		_ = h.Do(func() (err error) { have, err = os.ReadFile("/proc/thread-self/net/" + names); return err })
		if len(have) == 0 {
			continue
		}
		inv.addLegacy(tool, h.Try(tool+"-legacy-save").Stdout)
	}
	_ = h.Do(func() error { inv.readSysctls(); return nil })
	return inv
}

// addLegacy adds chains, policies and rules. A table that was asked for once stays as
// long as the namespace, empty and accepting: nothing takes it away but the removal
// of its module.
func (inv *inventory) addLegacy(tool, saved string) {
	table := ""
	for line := range strings.Lines(saved) {
		switch {
		case strings.HasPrefix(line, "*"):
			table = strings.TrimSpace(line[1:])
		case line[0] == '#', strings.HasPrefix(line, "COMMIT"), line[0] == ':' && strings.Contains(line, " ACCEPT "):
		default:
			inv.add(tool+" "+table, line)
		}
	}
}

func (inv *inventory) add(what, line string) {
	inv.lines = append(inv.lines, what+": "+strings.TrimSpace(passing.ReplaceAllString(line, "")))
}

// links lists links and addresses.
func (h *Host) links() (lines []string) {
	var all []struct {
		Name     string `json:"ifname"`
		Alias    string `json:"ifalias"`
		LinkInfo struct {
			Kind string `json:"info_kind"`
		} `json:"linkinfo"`
		Addrs []struct {
			Local  string `json:"local"`
			Length int    `json:"prefixlen"`
			Scope  string `json:"scope"`
		} `json:"addr_info"`
	}
	r := h.Try("ip", "-j", "-d", "addr")
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil {
		return []string{fmt.Sprintf("links cannot be read: %v: %s", err, r.Stderr)}
	}
	for _, l := range all {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("link: %s %s %s", l.Name, l.LinkInfo.Kind, l.Alias)))
		for _, a := range l.Addrs {
			if a.Scope != "link" {
				lines = append(lines, fmt.Sprintf("address: %s/%d on %s", a.Local, a.Length, l.Name))
			}
		}
	}
	return lines
}

// readSysctls runs in the host's namespace.
func (inv *inventory) readSysctls() {
	const root = "/proc/sys/net"
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "neigh" {
			return fs.SkipDir
		}
		if err != nil || !d.Type().IsRegular() || volatile.MatchString(path) {
			return nil //nolint:nilerr // a link that has gone, with its parameters
		}
		if b, err := os.ReadFile(path); err == nil {
			inv.sysctls[strings.ReplaceAll(path[len("/proc/sys/"):], "/", ".")] = strings.TrimSpace(string(b))
		}
		return nil
	})
}

// since lists what this inventory has that the earlier one had not, what is
// missing from it, and the sysctls that changed.
func (inv *inventory) since(before *inventory) (diff []string) {
	diff = append(diff, subtract(inv.lines, before.lines, "")...)
	diff = append(diff, subtract(before.lines, inv.lines, "missing: ")...)
	for _, key := range slices.Sorted(maps.Keys(before.sysctls)) {
		if now, ok := inv.sysctls[key]; ok && now != before.sysctls[key] {
			diff = append(diff, fmt.Sprintf("sysctl: %s = %s, was %s", key, now, before.sysctls[key]))
		}
	}
	return diff
}

// subtract returns the lines of a that b has not, with as many of each.
func subtract(a, b []string, label string) (diff []string) {
	count := map[string]int{}
	for _, line := range b {
		count[line]++
	}
	for _, line := range a {
		if count[line]--; count[line] < 0 {
			diff = append(diff, label+line)
		}
	}
	return diff
}

// Expect says that the test itself leaves something on the host after a daemon was
// started there: any report with one of the texts in it is none.
func (h *Host) Expect(texts ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expected = append(h.expected, texts...)
}

// leftovers compares the host with what it was before its first daemon.
func (h *Host) leftovers() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.before == nil {
		return nil
	}
	return slices.DeleteFunc(h.take().since(h.before), func(line string) bool {
		return slices.ContainsFunc(h.expected, func(text string) bool { return strings.Contains(line, text) })
	})
}

// remember takes the inventory to compare with, once.
func (h *Host) remember() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.before == nil {
		h.before = h.take()
	}
}
