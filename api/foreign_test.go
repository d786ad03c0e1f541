package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestForeign: what Docker has and Fairlead never will is answered with Docker's status
// for a host that has none, and with a sentence.
func TestForeign(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	const swarm = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/swarm", 503, swarm},
		{"GET", "/swarm/unlockkey", 503, swarm},
		{"POST", "/swarm/update", 503, swarm},
		{"POST", "/swarm/leave", 503, "This node is not part of a swarm"},
		{"POST", "/swarm/init", 501, "one host and makes no swarm"},
		{"POST", "/swarm/join", 501, "joins no swarm"},
		{"GET", "/services", 503, swarm},
		{"GET", "/services/x/logs", 503, swarm},
		{"POST", "/services/create", 503, swarm},
		{"DELETE", "/services/x", 503, swarm},
		{"GET", "/nodes/x", 503, swarm},
		{"GET", "/tasks", 503, swarm},
		{"POST", "/secrets/create", 503, swarm},
		{"GET", "/configs/x", 503, swarm},
		{"PUT", "/volumes/x", 503, swarm},
		{"GET", "/plugins", 200, "[]"},
		{"GET", "/plugins/x/json", 404, `plugin "x" not found`},
		{"GET", "/plugins/example.org/a/b/json", 404, `plugin "example.org/a/b" not found`},
		{"POST", "/plugins/example.org/a/enable", 404, `plugin "example.org/a" not found`},
		{"DELETE", "/plugins/x", 404, `plugin "x" not found`},
		{"POST", "/plugins/pull", 501, "Fairlead has no plugins"},
		{"GET", "/plugins/privileges", 501, "Fairlead has no plugins"},
		{"POST", "/build", 501, "Fairlead does not build images"},
		{"POST", "/session", 501, "`load` the image"},
		{"POST", "/grpc", 501, "Fairlead does not build images"},
		{"POST", "/build/prune", 200, `"SpaceReclaimed":0`},
		{"GET", "/images/search", 501, "does not search registries"},
		{"GET", "/containers/x/checkpoints", 501, "no checkpoints"},
		{"GET", "/containers/x/attach/ws", 501, "speaks no WebSockets"},
		{"GET", "/images/a/b:1/attestations", 501, "reads no attestations"},
	} {
		if text := l.want(tt.status, tt.method, "/v1.45"+tt.path, "", nil); !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), tt.want) {
			t.Errorf("%s %s: %s", tt.method, tt.path, text)
		}
	}
	for _, path := range []string{"/containers/a/b/pause", "/networks/a/b/connect", "/swarms", "/volumesx/v", "/event"} {
		if text := l.want(404, "POST", path, "", nil); !strings.Contains(text, "page not found") {
			t.Errorf("%s: %s", path, text)
		}
	}
}

// TestBuildContext: who sends a large context hears the sentence, not that the
// connection broke.
func TestBuildContext(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	const size = 20 << 20
	conn, err := net.Dial(l.addr.Network(), l.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	// A client that writes all before it reads.
	if _, err := fmt.Fprintf(conn, "POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(conn, io.LimitReader(zeros{}, size)); err != nil || n != size {
		t.Fatalf("%d bytes are taken: %v", n, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 501 || !strings.Contains(string(text), "does not build images") {
		t.Errorf("%s %s", resp.Status, text)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
