package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cli"
)

// answers sets bodies by METHOD PATH.
func (s *server) answers(replies map[string]string) {
	s.front.mu.Lock()
	defer s.front.mu.Unlock()
	s.front.answers = map[string]canned{}
	for key, body := range replies {
		s.front.answers[key] = canned{http.StatusOK, []byte(body)}
	}
}

// screen is a terminal and what was drawn on it.
func screen(t *testing.T, width uint16) (drawn *buffer, ours, theirs *os.File) {
	t.Helper()
	ours, theirs = pty(t)
	if err := unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: width}); err != nil {
		t.Fatal(err)
	}
	drawn = &buffer{}
	go func() { _, _ = io.Copy(drawn, ours) }() // ends when the terminal closes
	return drawn, ours, theirs
}

// TestProgressBars: pull, push and load draw bars on a terminal.
func TestProgressBars(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	defer s.stop()
	lines := `{"status":"Downloading","progressDetail":{"current":50,"total":100},"id":"4abc"}` + "\n" +
		`{"status":"Download complete","progressDetail":{},"id":"4abc"}` + "\n"
	s.answers(map[string]string{"POST /images/create": lines, "POST /images/localhost/app/push": lines, "POST /images/load": lines})
	archive := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(archive, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"pull", "alpine"}, {"push", "localhost/app"}, {"load", "-i", archive}} {
		drawn, _, theirs := screen(t, 120)
		if code := <-s.start(nil, theirs, theirs, args...); code != 0 {
			t.Fatalf("%s: %d, %s", args, code, drawn)
		}
		await(t, args[0]+" draws a bar", func() bool {
			return strings.Contains(drawn.String(), "4abc: Downloading [=========================>                         ]      50B/100B") &&
				strings.Contains(drawn.String(), "\x1b[")
		})
	}
}

// TestTypedCredentials: login asks at the terminal, and does not show the password.
func TestTypedCredentials(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	defer s.stop()
	s.answers(map[string]string{"POST /auth": `{"Status":"Login Succeeded"}`})
	drawn, ours, theirs := screen(t, 80)
	// A process of its own: where the configuration is, is decided once.
	login := exec.CommandContext(t.Context(), "fairlead", "-H", "unix://"+s.socket, "login", "registry.example")
	login.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir())
	login.Stdin, login.Stdout, login.Stderr = theirs, theirs, theirs
	if err := login.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the name is asked for", func() bool { return strings.Contains(drawn.String(), "Username: ") })
	if _, err := ours.WriteString("me\n"); err != nil {
		t.Fatal(err)
	}
	await(t, "the password is asked for", func() bool { return strings.Contains(drawn.String(), "Password: ") })
	time.Sleep(50 * time.Millisecond) // let the echo be off
	if _, err := ours.WriteString("geheim\n"); err != nil {
		t.Fatal(err)
	}
	if err := login.Wait(); err != nil {
		t.Fatalf("login: %v, %s", err, drawn)
	}
	if strings.Contains(drawn.String(), "geheim") {
		t.Error("the password was shown")
	}
	sent := s.front.last("POST", "/auth")
	if !strings.Contains(string(sent.body), `"username":"me","password":"geheim"`) {
		t.Errorf("sent %s", sent.body)
	}
}

// TestArchivesStayOffTerminals: nobody wants a tar archive on the screen.
func TestArchivesStayOffTerminals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	defer s.stop()
	for _, args := range [][]string{{"save", "demo"}, {"export", "web"}, {"cp", "web:/etc", "-"}} {
		_, _, theirs := screen(t, 80)
		var errs buffer
		if code := <-s.start(nil, theirs, &errs, args...); code != 125 || !strings.Contains(errs.String(), "refusing to save to a terminal") {
			t.Errorf("%s: %d, %s", args, code, errs.String())
		}
	}
}

// watched is a daemon of two containers, whose figures and events come as told.
type watched struct{ events chan string }

func (d *watched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(w).Flush
	w.Header().Set("Content-Type", "application/json")
	switch path := versionPrefix.ReplaceAllString(r.URL.Path, ""); {
	case path == "/events":
		_ = flush()
		for event := range d.events {
			_, _ = io.WriteString(w, event)
			_ = flush()
		}
	case path == "/containers/json":
		_, _ = io.WriteString(w, `[{"Id":"one","Names":["/one"]}]`)
	case strings.HasSuffix(path, "/stats"):
		name := strings.TrimSuffix(strings.TrimPrefix(path, "/containers/"), "/stats")
		for r.Context().Err() == nil {
			fmt.Fprintf(w, `{"id":%q,"name":"/%[1]s","memory_stats":{"usage":1,"limit":100}}`, name)
			_ = flush()
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// TestStatsFollow: stats without names shows containers as they come and go, and ends
// when the daemon does.
func TestStatsFollow(t *testing.T) {
	t.Parallel()
	d := &watched{events: make(chan string, 4)}
	l, err := net.Listen("unix", filepath.Join(socketDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	daemon := &http.Server{Handler: d, ReadHeaderTimeout: time.Minute}
	go func() { _ = daemon.Serve(l) }() // until it is closed
	defer func() { _ = daemon.Close() }()

	drawn, _, theirs := screen(t, 120)
	var errs buffer
	code := make(chan int, 1)
	go func() {
		code <- cli.Main(context.Background(), []string{"-H", "unix://" + l.Addr().String(), "stats", "--format", "table {{.Name}}\t{{.MemPerc}}"},
			cli.Streams{Out: theirs, Err: &errs}, cli.Build{})
	}()
	last := func() string { // what is on the screen
		frames := bytes.Split([]byte(drawn.String()), []byte("\x1b[H"))
		return string(frames[len(frames)-1])
	}
	await(t, "one is shown", func() bool { return strings.Contains(last(), "one") && strings.Contains(last(), "1.00%") })
	d.events <- `{"Type":"container","Action":"start","Actor":{"ID":"two"}}`
	await(t, "two is shown", func() bool { return strings.Contains(last(), "two") && strings.Contains(last(), "one") })
	d.events <- `{"Type":"container","Action":"die","Actor":{"ID":"one"}}`
	await(t, "one is gone", func() bool { return strings.Contains(last(), "two") && !strings.Contains(last(), "one") })
	close(d.events)
	if got := <-code; got != 0 {
		t.Errorf("stats: %d, %s", got, errs.String())
	}
}
