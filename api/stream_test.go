package api_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/api"
)

const attachAll = "/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\nHost: docker"

const upgradeHeaders = "\nConnection: Upgrade\nUpgrade: tcp"

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAttach(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, network, version, headers, config string
		status                                  int
		contentType, want                       string
	}{
		{
			"multiplexed", "unix", "1.42", upgradeHeaders, `{"Image":"demo","Cmd":["cat"]}`,
			101, "application/vnd.docker.multiplexed-stream", "\x01\x00\x00\x00\x00\x00\x00\x05early\x01\x00\x00\x00\x00\x00\x00\x04late",
		},
		{
			"before 1.42", "unix", "1.41", upgradeHeaders, `{"Image":"demo","Cmd":["cat"]}`,
			101, "application/vnd.docker.raw-stream", "\x01\x00\x00\x00\x00\x00\x00\x05early\x01\x00\x00\x00\x00\x00\x00\x04late",
		},
		{
			"terminal", "unix", "1.55", upgradeHeaders, `{"Image":"demo","Cmd":["cat"],"Tty":true}`,
			101, "application/vnd.docker.raw-stream", "earlylate",
		},
		{
			"without an upgrade", "unix", "1.55", "", `{"Image":"demo","Cmd":["cat"],"Tty":true}`,
			200, "application/vnd.docker.raw-stream", "earlylate",
		},
		{
			"TCP", "tcp", "1.55", upgradeHeaders, `{"Image":"demo","Cmd":["cat"],"Tty":true}`,
			101, "application/vnd.docker.raw-stream", "earlylate",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, tt.network, api.Options{KnownHost: func(name string) bool { return name == "docker" }})
			// The start below must wait for what the 101 promised.
			l.engine.AttachDelay = 50 * time.Millisecond
			l.image()
			l.create(tt.config)
			// What the client sends right behind its request must not be lost.
			conn, r, resp := l.upgrade("POST /v"+tt.version+"/containers/c"+attachAll+tt.headers, "early")
			if resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != tt.contentType {
				t.Fatalf("%s %v", resp.Status, resp.Header)
			}
			if tt.status == 101 && (resp.Header.Get("Upgrade") != "tcp" || resp.Header.Get("Connection") != "Upgrade") {
				t.Errorf("%v", resp.Header)
			}
			l.want(204, "POST", "/containers/c/start", "", nil)
			first := make([]byte, strings.Index(tt.want, "early")+len("early"))
			if _, err := io.ReadFull(r, first); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "late\x04"); err != nil {
				t.Fatal(err)
			}
			// Half a close, or a terminal's ctrl-d, ends the input; the output
			// goes on to its own end.
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got := string(first) + readAll(t, r); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestAttachRefused(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo","Cmd":["sleep"]}`)
	for path, status := range map[string]int{
		"/containers/nope" + attachAll:                                404,
		"/containers/c/attach?detachKeys=nope HTTP/1.1\nHost: docker": 400,
	} {
		if _, _, resp := l.upgrade("POST "+path+upgradeHeaders, ""); resp.StatusCode != status {
			t.Errorf("%s: %s, want %d", path, resp.Status, status)
		}
	}
	// What is paused is refused with a status, not by a stream.
	l.want(204, "POST", "/containers/c/start", "", nil)
	l.want(204, "POST", "/containers/c/pause", "", nil)
	if _, _, resp := l.upgrade("POST /containers/c"+attachAll+upgradeHeaders, ""); resp.StatusCode != 409 {
		t.Errorf("paused: %s", resp.Status)
	}
	l.want(204, "POST", "/containers/c/unpause", "", nil)
	l.want(204, "DELETE", "/containers/c?force=1", "", nil)
}

func TestExec(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo","Cmd":["sleep"]}`)
	create := func(status int, body string) string {
		var got struct{ ID string }
		l.want(status, "POST", "/containers/c/exec", body, &got)
		return got.ID
	}
	start := func(id, body string) (net.Conn, io.Reader, int) {
		conn, r, resp := l.upgrade("POST /v1.55/exec/"+id+"/start HTTP/1.1\nHost: docker\nContent-Type: application/json\nContent-Length: 2"+upgradeHeaders, body)
		return conn, r, resp.StatusCode
	}
	create(409, `{"Cmd":["echo","hi"]}`)
	l.want(204, "POST", "/containers/c/start", "", nil)
	create(400, `{}`)
	create(400, `{"Cmd":["echo"],"DetachKeys":"nope"}`)

	id := create(201, `{"Cmd":["echo","hi"],"AttachStdout":true}`)
	_, r, status := start(id, "{}")
	if got := readAll(t, r); status != 101 || got != "\x01\x00\x00\x00\x00\x00\x00\x03hi\n" {
		t.Errorf("%d %q", status, got)
	}
	waitFor(t, func() bool {
		var info struct {
			Running  bool
			ExitCode *int
		}
		l.want(200, "GET", "/exec/"+id+"/json", "", &info)
		return !info.Running && info.ExitCode != nil && *info.ExitCode == 0
	})
	if _, _, status := start(id, "{}"); status != 409 {
		t.Errorf("started twice: %d", status)
	}
	if _, _, status := start("nope", "{}"); status != 404 {
		t.Errorf("unknown: %d", status)
	}

	// An error after the upgrade is for the user's eyes, in the stream.
	id = create(201, `{"Cmd":["nosuch"],"AttachStdout":true}`)
	_, r, _ = start(id, "{}")
	want := "runc create failed: exec: \"nosuch\": executable file not found in $PATH\r\n"
	if got := readAll(t, r); got != "\x02\x00\x00\x00\x00\x00\x00"+string(rune(len(want)))+want {
		t.Errorf("%q", got)
	}

	id = create(201, `{"Cmd":["echo"]}`)
	l.want(200, "POST", "/exec/"+id+"/start", `{"Detach":true}`, nil)
	l.want(400, "POST", "/exec/"+id+"/resize?h=x&w=80", "", nil)
	l.want(200, "POST", "/exec/"+id+"/resize?h=24&w=80", "", nil)
	l.want(200, "POST", "/containers/c/resize?h=24&w=80", "", nil)
	l.want(204, "DELETE", "/containers/c?force=1", "", nil)
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come")
		}
	}
}
