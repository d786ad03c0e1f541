package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
)

// Captures take copies of packets.
type Captures interface {
	// OpenCapture has begun to take packets when it returns; Run must be called. A target
	// or interface that is not there wraps errdefs.ErrNotFound, a container that does not
	// run errdefs.ErrFailedPrecondition, a filter that is not understood
	// errdefs.ErrInvalidArgument.
	OpenCapture(ctx context.Context, request CaptureRequest) (Capture, error)
}

// CaptureRequest says whose packets are wanted, and which.
type CaptureRequest struct {
	// Target is a container, a network, or "host".
	Target string
	// Interfaces are names; none is those by which the target speaks with others, and "any"
	// all that it has.
	Interfaces []string
	// Filter is an expression of pcap-filter(7).
	Filter string
	// Direction is "in", "out" or "inout"; "" is the last.
	Direction string
	// SnapLen is how many bytes of each packet are kept, 0 all; Count after how many packets
	// the capture ends, 0 never.
	SnapLen, Count uint64
}

// Capture is one that has begun.
type Capture interface {
	// Run writes it as pcapng until ctx ends or there is nothing more to come, and says at
	// the end what was lost. flush is called when nothing waits to be written.
	Run(ctx context.Context, w io.Writer, flush func() error) error
}

// capture answers POST and GET /fairlead/v1/capture with pcapng, without an end. The end
// of a request's body, if it has one, ends the capture in good order.
func (s *server) capture(w http.ResponseWriter, r *http.Request) error {
	if s.options.Captures == nil {
		return fmt.Errorf("this daemon captures nothing: %w", errdefs.ErrNotImplemented)
	}
	request, err := captureRequest(r.URL.Query())
	if err != nil {
		return err
	}
	capture, err := s.options.Captures.OpenCapture(r.Context(), request)
	if err != nil {
		return err
	}
	ctx, end := untilBodyEnds(w, r)
	defer end()
	w.Header().Set("Content-Type", "application/x-pcapng")
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusOK)
	if err := capture.Run(ctx, w, http.NewResponseController(w).Flush); err != nil {
		s.log.DebugContext(r.Context(), "capture ended", "target", request.Target, "err", err)
	}
	return nil
}

// untilBodyEnds gives a context that ends with the request's body, where it has one. end
// is to be called before the handler returns.
func untilBodyEnds(w http.ResponseWriter, r *http.Request) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(r.Context())
	conn := http.NewResponseController(w)
	if r.ContentLength == 0 || conn.EnableFullDuplex() != nil {
		return ctx, cancel
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
	}()
	return ctx, func() {
		cancel()
		// net/http closes the body, for which it waits until nobody reads.
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-read
	}
}

func captureRequest(q url.Values) (CaptureRequest, error) {
	r := CaptureRequest{Target: q.Get("target"), Interfaces: q["interface"], Filter: q.Get("filter"), Direction: q.Get("direction")}
	if r.Target == "" {
		return r, invalid("target: want a container, a network, or host")
	}
	switch r.Direction {
	case "", "in", "out", "inout":
	default:
		return r, invalid("direction %q: want in, out or inout", r.Direction)
	}
	for name, to := range map[string]*uint64{"snaplen": &r.SnapLen, "count": &r.Count} {
		text := q.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return r, invalid("%s %q: want a number", name, text)
		}
		*to = n
	}
	return r, nil
}
