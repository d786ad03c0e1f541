package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/events"
)

func started(id string) events.Message {
	return events.Message{
		Type: "container", Action: "start", Scope: "local", Time: 1, TimeNano: 1_000_000_002,
		Actor: events.Actor{ID: id, Attributes: map[string]string{"image": "demo", "name": "c"}},
	}
}

// TestEventsForms: what old clients read is there whatever the version, for they take the
// newest; and the form of the stream is the one that is asked for, where the version has it.
func TestEventsForms(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.engine.Tell(started("abc"))
	l.engine.Tell(events.Message{Type: "image", Action: "pull", Actor: events.Actor{ID: "demo:1"}, TimeNano: 1})
	l.engine.Tell(events.Message{Type: "network", Action: "create", Actor: events.Actor{ID: "n"}, TimeNano: 1})
	messages := []string{
		`{"status":"start","id":"abc","from":"demo","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"demo","name":"c"}},"scope":"local","time":1,"timeNano":1000000002}`,
		`{"status":"pull","id":"demo:1","Type":"image","Action":"pull","Actor":{"ID":"demo:1","Attributes":null},"timeNano":1}`,
		`{"Type":"network","Action":"create","Actor":{"ID":"n","Attributes":null},"timeNano":1}`,
	}
	for _, tt := range []struct {
		version, accept, mediaType, mark string
	}{
		{"1.51", "", "application/json", ""},
		{"1.52", "", "application/json", ""},
		{"1.51", "application/x-ndjson", "application/json", ""},
		{"1.52", "application/x-ndjson", "application/x-ndjson", ""},
		{"1.52", "application/jsonl", "application/json", ""},
		{"1.55", "application/jsonl", "application/jsonl", ""},
		{"1.55", "text/plain, application/json;q=0.3, application/json-seq;q=0.9, */*", "application/json-seq", "\x1e"},
		{"1.55", "application/json-seq;q=x, ;;", "application/json-seq", "\x1e"},
	} {
		resp, body := l.do("GET", "/v"+tt.version+"/events?since=1&until=2", "", "Accept", tt.accept)
		want := tt.mark + strings.Join(messages, "\n"+tt.mark) + "\n"
		if diff := cmp.Diff(want, body); diff != "" || resp.Header.Get("Content-Type") != tt.mediaType {
			t.Errorf("%s %q: %s\n%s", tt.version, tt.accept, resp.Header.Get("Content-Type"), diff)
		}
	}
	if text := l.want(400, "GET", "/events?filters="+`{"colour":["red"]}`, "", nil); !strings.Contains(text, "invalid filter 'colour'") {
		t.Error(text)
	}
	l.want(400, "GET", "/events?filters=x", "", nil)
}

// TestEventsStream: the headers come when nothing can be missed any more, each
// message as it happens, and all ends with the client.
func TestEventsStream(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	conn, r, resp := l.upgrade("GET /v1.55/events HTTP/1.1\nHost: x", "")
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	out := bufio.NewReader(resp.Body)
	for i := range 3 {
		l.engine.Tell(started(fmt.Sprint(i)))
		line, err := out.ReadString('\n')
		var m events.Message
		if err != nil || json.Unmarshal([]byte(line), &m) != nil || m.Actor.ID != fmt.Sprint(i) {
			t.Fatalf("%d: %q, %v", i, line, err)
		}
	}
	before := runtime.NumGoroutine()
	_ = conn.Close()
	_, _ = r.Discard(r.Buffered())
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() >= before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stream outlives its client")
		}
	}
}

// TestEventsUnread: clients who never read cost a bounded amount of memory, and hold
// nobody up.
func TestEventsUnread(t *testing.T) {
	l := unixLab(t)
	for range 10 {
		if _, _, resp := l.upgrade("GET /v1.55/events HTTP/1.1\nHost: x", ""); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	fill := func() {
		for i := range 20_000 {
			l.engine.Tell(started(fmt.Sprint(i)))
		}
	}
	began := time.Now()
	fill()
	time.Sleep(100 * time.Millisecond)
	before := memory()
	for range 5 {
		fill()
	}
	if grown := int64(memory()) - int64(before); grown > 4<<20 {
		t.Errorf("100,000 events that nobody reads keep %d KiB", grown>>10)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("they took %v", took)
	}
	if got := strings.Count(l.want(200, "GET", "/events?since=1&until=2", "", nil), `"Type"`); got != 4096 {
		t.Errorf("one who reads gets %d events", got)
	}
}
