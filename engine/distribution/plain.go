package distribution

import (
	"net/http"
	"sync"
)

// orPlain asks registries by HTTP where they do not speak HTTPS, however they say so.
// Which of both a host speaks is known from its first answer on.
type orPlain struct {
	http.RoundTripper
	mu     sync.Mutex
	speaks map[string]string // the scheme, by host
}

// RoundTrip sends the request.
func (o *orPlain) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return o.RoundTripper.RoundTrip(r)
	}
	scheme := o.scheme(r.URL.Host)
	if scheme == "http" {
		return o.RoundTripper.RoundTrip(plain(r))
	}
	answer, err := o.RoundTripper.RoundTrip(r)
	if err == nil {
		o.learn(r.URL.Host, "https")
		return answer, nil
	}
	if scheme != "" || r.Context().Err() != nil || (r.Body != nil && r.Body != http.NoBody && r.GetBody == nil) {
		return nil, err
	}
	again := plain(r)
	if r.GetBody != nil {
		body, bodyErr := r.GetBody()
		if bodyErr != nil {
			return nil, err
		}
		again.Body = body
	}
	answer, plainErr := o.RoundTripper.RoundTrip(again)
	if plainErr != nil {
		return nil, err // what is wrong is more likely with the first
	}
	o.learn(r.URL.Host, "http")
	return answer, nil
}

func (o *orPlain) scheme(host string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.speaks[host]
}

func (o *orPlain) learn(host, scheme string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.speaks == nil {
		o.speaks = make(map[string]string)
	}
	o.speaks[host] = scheme
}

// plain is the same request by HTTP.
func plain(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.URL.Scheme = "http"
	return out
}
