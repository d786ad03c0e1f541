package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// send sends a request to the daemon's socket, an object as its body.
func (r *attackRange) send(method, path string, body any) (status int, answer string) {
	r.t.Helper()
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			r.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://localhost"+path, bytes.NewReader(content))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.HTTP().Do(req)
	if err != nil {
		r.t.Errorf("%s %.200s: %v", method, path, err)
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Errorf("%s %.200s: %v", method, path, err)
	}
	return resp.StatusCode, string(text)
}

// picture is all that a request could have changed: rules, links, routes, what the
// daemon keeps, and the files of a container. Amid others' coming and going it is what
// these do not change.
func (r *attackRange) picture() map[string]string {
	r.t.Helper()
	out := map[string]string{
		"rules":    r.host.Run("nft", "-s", "list", "ruleset"),
		"links":    strings.Join(slices.Collect(addresses(r.host)), ""),
		"routes 4": r.host.Run("ip", "route"),
		"routes 6": r.host.Run("ip", "-6", "route"),
		"a1":       r.Must("inspect", "a1"),
		"A":        r.Must("network", "inspect", "A"),
	}
	for name, args := range map[string][]string{
		"containers": {"ps", "-aq", "--no-trunc"}, "networks": {"network", "ls", "-q", "--no-trunc"}, "volumes": {"volume", "ls", "-q"},
		"hosts": {"exec", "a1", "cat", "/etc/hosts"}, "resolv.conf": {"exec", "a1", "cat", "/etc/resolv.conf"},
	} {
		out[name] = r.Must(args...)
	}
	if r.moment == amid {
		for _, name := range []string{"rules", "links", "routes 4", "routes 6", "A", "containers", "networks"} {
			delete(out, name)
		}
	}
	return out
}

// unchanged fails the test where the picture is not as it was.
func (r *attackRange) unchanged(was map[string]string) {
	r.t.Helper()
	for name, now := range r.picture() {
		if now != was[name] {
			r.t.Errorf("%s changed, from\n%s\nto\n%s", name, was[name], now)
		}
	}
}

// takes checks a field's control: the request with a good word is granted. What it
// made is removed.
func (r *attackRange) takes(f field) {
	r.t.Helper()
	path, body := f.ask(f.good)
	status, text := r.send(http.MethodPost, path, body)
	var made struct{ Id, Name string }
	if status != http.StatusCreated || json.Unmarshal([]byte(text), &made) != nil {
		r.t.Errorf("cannot tell: %s %q is not taken: %d %s", f.name, f.good, status, text)
		return
	}
	path, _, _ = strings.Cut(path, "?")
	ref := map[bool]string{true: made.Id, false: made.Name}[made.Id != ""]
	if status, text := r.send(http.MethodDelete, strings.TrimSuffix(path, "create")+ref, nil); status != http.StatusNoContent {
		r.t.Errorf("%s %q is not removed: %d %s", f.name, f.good, status, text)
	}
}

// TestAttackHostileWords is row 31 of the attacks: no field of a request takes a word
// that means something to whom it is passed on to, and no request with one changes
// anything.
func TestAttackHostileWords(t *testing.T) {
	attacked(t, nil, func(_ *testing.T, r *attackRange) {
		for _, f := range slices.Concat(wordFields(), addressFields()) {
			r.takes(f)
		}
	}, func(t *testing.T, r *attackRange) {
		if !full() && r.moment != atFirst {
			return // no rule decides on words
		}
		was := r.picture()
		var wg sync.WaitGroup
		busy := make(chan struct{}, 8)
		try := func(f field, words []string) {
			if f.free {
				words = nil
			}
			for _, word := range slices.Concat(words, f.hostile) {
				busy <- struct{}{}
				wg.Go(func() {
					defer func() { <-busy }()
					path, body := f.ask(word)
					status, text := r.send(http.MethodPost, path, body)
					if refused := status >= 400 && status < 500 || status == http.StatusNotImplemented; !refused || !strings.Contains(text, `"message"`) {
						t.Errorf("%s %.60q: %d %.300s", f.name, word, status, text)
					}
				})
			}
		}
		for _, f := range wordFields() {
			try(f, hostileWords)
		}
		for _, f := range addressFields() {
			try(f, hostileAddresses)
		}
		wg.Wait()
		r.unchanged(was)
		r.renames(was)
		r.carries(was)
	})
}

// renames tries the words as a running container's new name.
func (r *attackRange) renames(was map[string]string) {
	r.t.Helper()
	f := ofQuery("", "", "/containers/a1/rename", "name", nil)
	for _, word := range append([]string{""}, hostileWords...) {
		path, _ := f.ask(word)
		if status, text := r.send(http.MethodPost, path, nil); status != http.StatusBadRequest {
			r.t.Errorf("a1 is renamed to %.60q: %d %s", word, status, text)
		}
	}
	r.unchanged(was)
}

// carries checks that what is a container's own business is passed on as it is, and
// gets into nothing else.
func (r *attackRange) carries(was map[string]string) {
	r.t.Helper()
	labels, env := object{}, []string{}
	for i, word := range hostileWords {
		if strings.ContainsRune(word, 0) {
			continue
		}
		labels[word] = word
		env = append(env, fmt.Sprintf("WORD%d=%s", i, word))
	}
	status, text := r.send(http.MethodPost, "/containers/create?name=carrier", object{
		"Image": "demo", "Cmd": []string{"sleep", "3600"}, "Labels": labels, "Env": env, "HostConfig": object{"NetworkMode": "A"},
	})
	if status != http.StatusCreated {
		r.t.Errorf("labels and environment: %d %s", status, text)
		return
	}
	r.Must("start", "carrier")
	inside := r.Must("exec", "carrier", "env")
	for _, kv := range env {
		if !strings.Contains(inside, kv) {
			r.t.Errorf("the environment has no %q:\n%s", kv, inside)
		}
	}
	var got []struct {
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal([]byte(r.Must("inspect", "carrier")), &got); err != nil || len(got) != 1 {
		r.t.Errorf("inspect: %v", err)
	}
	for _, c := range got {
		for word := range labels {
			if c.Config.Labels[word] != word {
				r.t.Errorf("label %q is %q", word, c.Config.Labels[word])
			}
		}
	}
	r.Must("rm", "-f", "carrier")
	r.unchanged(was)
}
