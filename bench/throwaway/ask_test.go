package throwaway

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// TestAsk: each request has its answer, one that goes wrong an error that names the host and
// the request, and the subject ends when nothing is asked any more.
func TestAsk(t *testing.T) {
	t.Parallel()
	asked, questions := io.Pipe()
	answers, answered := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serve(asked, answered, func(n int) (string, error) {
			if n > 2 {
				return "", errors.New("too many")
			}
			return strings.Repeat("x", n), nil
		})
		ended <- errors.Join(err, asked.Close(), answered.Close()) // as a process's
	}()
	h := &Host{Name: "h", cmd: new(exec.Cmd), in: questions, out: json.NewDecoder(answers)}
	for n, want := range []string{"", "x", "xx"} {
		if got, err := Ask[string](h, "repeat", n); got != want || err != nil {
			t.Errorf("%d: %q, %v", n, got, err)
		}
	}
	if got, err := Ask[string](h, "repeat", 3); err == nil || err.Error() != "h: repeat: too many" {
		t.Errorf("3: %q, %v", got, err)
	}
	if got, err := Ask[string](h, "repeat", 1); got != "x" || err != nil {
		t.Errorf("after an error: %q, %v", got, err)
	}
	if err := errors.Join(questions.Close(), <-ended); err != nil {
		t.Error(err)
	}
}
