package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// happening is an event as `docker events` prints it with --format json.
type happening struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
	TimeNano int64 `json:"timeNano"`
}

// name is what docs/EVENTS.md calls it: commands and states are left out.
func (e happening) name() string {
	action, _, _ := strings.Cut(e.Action, ": ")
	return e.Type + " " + action
}

// past is all that happened since the daemon's start, as Docker's client tells it.
func (s *site) past(filters ...string) (out []happening) {
	s.t.Helper()
	args := []string{"events", "--since", "0", "--until", time.Now().UTC().Format(time.RFC3339Nano), "--format", "{{json .}}"}
	for _, f := range filters {
		args = append(args, "--filter", f)
	}
	for line := range strings.Lines(s.mustDocker(args...)) {
		out = append(out, decode[happening](s.t, line))
	}
	return out
}

// happens waits until an event has happened.
func (s *site) happens(name string) {
	s.t.Helper()
	eventually(s.t, "the event "+name, func() bool {
		return slices.ContainsFunc(s.past("type="+strings.Fields(name)[0]), func(e happening) bool { return e.name() == name })
	})
}

// listedEvents are the rows of the table in docs/EVENTS.md, with their attributes.
func listedEvents(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/EVENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- events begin -->")
	table, _, _ = strings.Cut(table, "<!-- events end -->")
	rows := make(map[string][]string)
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 || strings.HasPrefix(line, "| type") {
			continue
		}
		action, _, _ := strings.Cut(strings.TrimSuffix(cells[1], " *"), ": ")
		var attributes []string
		if list := strings.Trim(cells[3], " |\n"); list != "" && !strings.Contains(list, "what may") {
			attributes = strings.Split(list, ", ")
		}
		rows[strings.TrimSuffix(strings.TrimPrefix(cells[0], "| "), " *")+" "+action] = attributes
	}
	return rows
}

// heardElsewhere are events that this test would need another site for, and the tests
// that hear them.
var heardElsewhere = map[string]string{
	"daemon lost":         "engine TestEventsGap",
	"daemon teardown":     "TestEveryEvent, as the last that is heard",
	"firewall backend":    "network TestOwnEvents",
	"firewall drop":       "network TestOwnEvents",
	"firewall forwarders": "network TestOwnEvents",
	"firewall neighbours": "network TestOwnEvents",
	"healing contend":     "network TestOwnEvents",
	"healing fail":        "network TestOwnEvents",
	"healing settle":      "network TestOwnEvents",
	"helper fail":         "daemon TestHelperEvents",
	"helper replace":      "TestUpgrade",
	"operation end":       "network TestPortsAreHeldWhenTheyCanBe",
	"operation unended":   "network TestPortsAreHeldWhenTheyCanBe",
	"container oom":       "engine TestOutOfMemory",
	"image pull":          "TestDockerPullAndPush",
	"image push":          "TestDockerPullAndPush",
}

// TestEveryEvent: what happens is what docs/EVENTS.md lists, and all that it lists does;
// Docker's client prints it, with the attributes that it names, in order and once.
func TestEveryEvent(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	config := s.lab.Dir("config") + "/daemon.json"
	if err := os.WriteFile(config, []byte(`{"labels":["a=b"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--config-file", config}})
	s.importImage("demo")
	s.live()
	s.unlike()
	s.itself()
	listed, heard := listedEvents(t), make(map[string]int)
	for _, e := range s.past() {
		heard[e.name()]++
		attributes, is := listed[e.name()]
		if !is {
			t.Errorf("docs/EVENTS.md has no %s: %+v", e.name(), e)
		}
		for _, a := range attributes {
			if _, has := e.Actor.Attributes[a]; !has && a != "imageRef" {
				t.Errorf("%s has no %s: %+v", e.name(), a, e.Actor)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if _, elsewhere := heardElsewhere[name]; heard[name] == 0 && !elsewhere {
			t.Errorf("nobody heard %s", name)
		}
	}
	l := s.events("--filter", "type=daemon", "--format", "{{.Action}} {{.Actor.Attributes.forget}}")
	s.Teardown()
	l.hears("teardown true")
}

// live is a container's life, with all that can happen to it.
func (s *site) live() {
	t := s.t
	s.Must("volume", "create", "data")
	s.Must("network", "create", "back")
	s.Must("run", "-dit", "--name", "web", "-v", "data:/data", "--health-cmd", "true", "--health-interval", "1h",
		"--health-start-period", "1h", "--health-start-interval", "50ms", "demo", "sh")
	s.Must("network", "connect", "back", "web")
	s.Must("network", "disconnect", "back", "web")
	s.Must("exec", "web", "true")
	s.Must("top", "web")
	for _, path := range []string{"resize?h=30&w=90", "pause", "unpause", "kill?signal=URG", "rename?name=site"} {
		s.call(http.MethodPost, "/containers/web/"+path, nil)
	}
	s.Must("update", "--memory", "256m", "--memory-swap", "256m", "site")
	dir := s.lab.Dir("files")
	s.Must("cp", "site:/bin/busybox", filepath.Join(dir, "busybox"))
	s.Must("cp", filepath.Join(dir, "busybox"), "site:/tmp/other")
	s.Must("export", "-o", filepath.Join(dir, "site.tar"), "site")
	s.Must("commit", "-m", "kept", "site", "demo:kept")
	s.detached("site")
	s.happens("container detach")
	s.happens("container health_status")
	s.Must("stop", "-t", "0", "site")
	s.Must("restart", "-t", "0", "site")
	s.Must("rm", "-f", "site")
	var got []string
	for _, e := range s.past("container=web", "type=container") {
		if e.Actor.Attributes["name"] == "web" && !strings.HasPrefix(e.Action, "exec") && !strings.HasPrefix(e.Action, "health") {
			got = append(got, e.Action)
		}
	}
	if want := "create start top resize pause unpause kill"; strings.Join(got, " ") != want {
		t.Errorf("of the container is told %q, want %q", got, want)
	}
	times := s.past()
	if !slices.IsSortedFunc(times, func(a, b happening) int { return int(a.TimeNano - b.TimeNano) }) {
		t.Errorf("they are not in order: %+v", times)
	}
}

// unlike is what happens to other things than containers.
func (s *site) unlike() {
	dir := s.lab.Dir("images")
	s.Must("save", "-o", filepath.Join(dir, "demo.tar"), "demo:kept")
	s.Must("rmi", "demo:kept")
	s.Must("load", "-i", filepath.Join(dir, "demo.tar"))
	s.Must("network", "rm", "back")
	s.Must("volume", "rm", "data")
	s.Must("create", "--name", "never", "demo", "true")
	for _, kind := range []string{"container", "image", "network", "volume"} {
		s.Must(kind, "prune", "-f")
	}
}

// itself is what Fairlead does of itself.
func (s *site) itself() {
	s.happens("daemon start")
	s.happens("host sysctl")
	s.Reload()
	s.happens("daemon reload")
	web := s.idle("--name", "web")
	s.host.Run("ip", "link", "set", s.vethOf(web), "nomaster")
	s.happens("healing mend")
	s.Must("heal", "pause")
	s.Must("heal", "resume")
	s.host.Run("nft", "add table ip other; add chain ip other forward { type filter hook forward priority 0; policy drop; }")
	s.happens("firewall foreign")
	s.host.Run("nft", "delete table ip other")
	for name, pids := range map[string][]int{"relay": s.relays(), "streams": s.streams()} {
		s.shoot(name, pids)
		eventually(s.t, "the restart of the "+name, func() bool {
			return slices.ContainsFunc(s.past("event=restart", "type=helper"), func(e happening) bool { return e.Actor.ID == name })
		})
	}
	if mends := s.past("type=healing", "label=kind=veth"); len(mends) != 1 || !strings.Contains(mends[0].Actor.Attributes["what"], "is no port of bridge") {
		s.t.Errorf("of one change is told %+v", mends)
	}
	s.Must("rm", "-f", "web")
}

// call makes a request that has to succeed.
func (s *site) call(method, path string, body []byte) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://fairlead"+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.HTTP().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
	}
}

// detached attaches to a container, and leaves it by the detach keys.
func (s *site) detached(ref string) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://fairlead/containers/"+ref+"/attach?stream=1&stdin=1&stdout=1", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	resp, err := s.HTTP().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	stream, both := resp.Body.(io.ReadWriteCloser)
	if !both {
		s.t.Fatalf("attach: %s", resp.Status)
	}
	defer stream.Close()
	if _, err := stream.Write([]byte{'p' - '`', 'q' - '`'}); err != nil {
		s.t.Error(err)
	}
	_, _ = io.ReadAll(stream) // until the daemon ends it
}

// TestLogsNameObjectAndOperation: whatever fails, a line of the log says on which object,
// in which operation and why, in either form; and no line has what may be secret.
func TestLogsNameObjectAndOperation(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--log-format", "json", "--log-level", "debug")
	const secret = "hunter2-swordfish"
	s.Must("network", "create", "--subnet", "10.40.0.0/24", "back")
	s.Must("volume", "create", "--label", "key="+secret, "data")
	s.Must("run", "-d", "--name", "web", "--network", "back", "-p", "8080:80", "-v", "data:/data", "-e", "PASSWORD="+secret, "-l", "token="+secret, "demo", "sleep", "3600")
	s.Must("exec", "-e", "PASSWORD="+secret, "web", "sh", "-c", "echo "+secret)
	s.Must("create", "--name", "second", "-p", "8080:80", "demo", "true")
	s.Must("create", "--name", "broken", "-e", "PASSWORD="+secret, "demo", "no-such-program", secret)
	s.Must("run", "-d", "--name", "again", "--restart", "always", "--network", "back", "demo", "true")
	for _, failing := range [][]string{
		{"start", "second"},
		{"start", "broken"},
		{"network", "create", "--subnet", "10.40.0.0/25", "overlap"},
		{"network", "rm", "back"},
		{"network", "connect", "back", "nobody"},
		{"network", "disconnect", "bridge", "web"},
		{"volume", "rm", "data"},
		{"exec", "web", "no-such-program"},
		{"rename", "web", "second"},
		{"run", "--pull", "never", "nothing:here"},
		{"login", "-u", "someone", "-p", secret, "127.0.0.1:1"},
		{"pull", "127.0.0.1:1/nothing:here"},
	} {
		if r := s.input(nil, failing...); r.Code == 0 {
			t.Errorf("%q succeeds", failing)
		}
	}
	want := []map[string]string{
		{"operation": "start", "container": "second", "err": "port is already allocated", "level": "WARN"},
		{"operation": "start", "container": "broken", "err": "no-such-program"},
		{"operation": "create", "network": "overlap", "err": "overlaps"},
		{"operation": "remove", "network": "back", "err": "active endpoints"},
		{"operation": "connect", "network": "back", "container": "nobody", "err": "No such container"},
		{"operation": "disconnect", "network": "bridge", "container": "web", "err": "not connected"},
		{"operation": "remove", "volume": "data", "err": "in use"},
		{"operation": "rename", "container": "web", "err": "already in use"},
		{"operation": "create", "image": "127.0.0.1:1/nothing:here", "err": "connect"},
		{"operation": "start", "container": "web", "level": "DEBUG", "msg": "container start"},
		{"operation": "connect", "network": "back", "level": "INFO", "msg": "network connect"},
		{"operation": "exec_create", "container": "web"},
		{"operation": "create", "volume": "data", "level": "INFO"},
		{"operation": "attach", "container": "web", "msg": "network attached", "duration": ""},
	}
	s.logs(want)
	s.Kill()
	s.SetArgs("--log-level", "debug") // as text
	s.Start()
	if r := s.input(nil, "start", "second"); r.Code == 0 {
		t.Error("it starts")
	}
	text := s.log()
	contains(t, "the log as text", text, `msg="request failed" operation=start container=second method=POST`)
	if i := strings.Index(text, secret); i >= 0 {
		t.Errorf("a secret is in the log: %s", text[max(0, i-300):i])
	}
}

func (s *site) log() string {
	s.t.Helper()
	text, err := os.ReadFile(s.LogFile)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// logs fails the test unless each of the lines is in the log, which is JSON.
func (s *site) logs(want []map[string]string) {
	s.t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(s.log()) {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, l)
	}
	for _, w := range want {
		found := slices.ContainsFunc(lines, func(l map[string]any) bool {
			for key, part := range w {
				value, has := l[key]
				text := fmt.Sprint(value)
				if !has || key == "err" && !strings.Contains(text, part) || key != "err" && part != "" && text != part {
					return false
				}
			}
			return true
		})
		if !found {
			s.t.Errorf("no line of the log has %v:\n%s", w, s.LogTail(60))
		}
	}
}
