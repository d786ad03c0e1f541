package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// many is how many containers are started at once.
func many() int {
	if full() {
		return 200
	}
	return 32
}

// post asks the API, and returns the answer's body.
func (s *site) post(method, path string, body any, want int) ([]byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://fairlead/v1.45"+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	client := s.HTTP()
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, err
}

// TestManyStartedAtOnce: many containers are started in parallel, each with an address
// of its own; the next daemon finds them all, and all are removed in parallel.
func TestManyStartedAtOnce(t *testing.T) {
	t.Parallel()
	s, many := newSite(t), many()
	all := func(what string, f func(name string) error) {
		t.Helper()
		began := time.Now()
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				if err := f(fmt.Sprint("c", i)); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		wg.Wait()
		t.Logf("%d containers %s in %s", many, what, time.Since(began))
		if t.Failed() {
			t.FailNow()
		}
	}
	config := map[string]any{"Image": "demo", "Cmd": []string{"sleep", "3600"}, "HostConfig": map[string]any{"RestartPolicy": map[string]any{"Name": "always"}}}
	all("created", func(name string) error {
		_, err := s.post("POST", "/containers/create?name="+name, config, http.StatusCreated)
		return err
	})
	all("started", func(name string) error {
		_, err := s.post("POST", "/containers/"+name+"/start", nil, http.StatusNoContent)
		return err
	})
	present := func() map[string]string {
		t.Helper()
		raw, err := s.post("GET", "/containers/json", nil, http.StatusOK)
		if err != nil {
			t.Fatal(err)
		}
		addresses := make(map[string]string)
		for _, c := range decode[[]struct {
			ID, State       string
			NetworkSettings struct {
				Networks map[string]struct{ IPAddress string }
			}
		}](t, string(raw)) {
			if c.State != "running" {
				t.Errorf("%s is %s", c.ID, c.State)
			}
			addresses[c.NetworkSettings.Networks["bridge"].IPAddress] = c.ID
		}
		return addresses
	}
	before := present()
	if len(before) != many {
		t.Errorf("%d addresses", len(before))
	}
	s.Kill()
	began := time.Now()
	s.Start()
	t.Logf("restored in %s", time.Since(began))
	after := present()
	for address, id := range before {
		if after[address] != id {
			t.Errorf("%s was %s's and is %s's", address, id, after[address])
		}
	}
	s.consistent()
	all("removed", func(name string) error {
		_, err := s.post("DELETE", "/containers/"+name+"?force=1", nil, http.StatusNoContent)
		return err
	})
	s.consistent()
}
