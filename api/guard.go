package api

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

// answer remembers what was answered, for the log and for recovered.
type answer struct {
	http.ResponseWriter
	status   int
	hijacked bool
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach Flush and the deadlines.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack takes the connection over.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil {
		a.hijacked = true
		a.status = http.StatusSwitchingProtocols
	}
	return conn, buffered, err
}

// logged logs each request at debug level, and sets the headers that every
// answer has.
func (s *server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		h := w.Header()
		h.Set("Server", "Fairlead/"+s.options.Version+" (linux)")
		h.Set("Api-Version", MaxVersion)
		h.Set("Ostype", "linux")
		h.Set("Docker-Experimental", "false")
		a := &answer{ResponseWriter: w}
		next.ServeHTTP(a, r)
		s.log.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path,
			"status", a.status, "duration", time.Since(began))
	})
}

// recovered answers 500 to a request whose handler panicked: one bad request
// must not end the daemon.
func (s *server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(cause) // net/http's own way to end a connection
			}
			s.log.ErrorContext(r.Context(), "request handler panicked",
				"method", r.Method, "path", r.URL.Path, "panic", cause, "stack", string(debug.Stack()))
			if a, ok := w.(*answer); ok && (a.status != 0 || a.hijacked) {
				// Too late to say anything, but by an end that is not the answer's own.
				panic(http.ErrAbortHandler)
			}
			s.writeError(w, r, errors.New("internal error; the daemon's log has the details"))
		}()
		next.ServeHTTP(w, r)
	})
}
