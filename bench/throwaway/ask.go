package throwaway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// reply is what a subject says to one request: its answer, or what went wrong.
type reply[Answer any] struct {
	Answer Answer
	Error  string `json:",omitempty"`
}

// Ask has the host's subject do what the request says, which the caller calls what, and
// returns its answer.
func Ask[Answer any](h *Host, what string, request any) (Answer, error) {
	var r reply[Answer]
	if err := h.Ask(request, &r); err != nil {
		return r.Answer, err
	}
	if r.Error != "" {
		return r.Answer, fmt.Errorf("%s: %s: %s", h.Name, what, r.Error)
	}
	return r.Answer, nil
}

// Serve does what the driver asks of a host, one request after the other, until the driver
// closes standard input. An error of do is an answer like another.
func Serve[Request, Answer any](do func(Request) (Answer, error)) error {
	return serve(os.Stdin, os.Stdout, do)
}

func serve[Request, Answer any](from io.Reader, to io.Writer, do func(Request) (Answer, error)) error {
	in, out := json.NewDecoder(from), json.NewEncoder(to)
	for {
		var q Request
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var r reply[Answer]
		var err error
		if r.Answer, err = do(q); err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}
