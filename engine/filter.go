package engine

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// patterns makes one test of a filter's values, which are regular expressions, as
// in Docker: a part of the text will do, ^ and $ tie it down. A value that is no
// expression is refused.
func patterns(key string, values []string) (func(text string) bool, error) {
	var all []*regexp.Regexp
	for _, v := range values {
		re, err := regexp.Compile(v)
		if err != nil {
			return nil, fmt.Errorf("invalid filter '%s=%s': %w: %w", key, v, err, errdefs.ErrInvalidArgument)
		}
		all = append(all, re)
	}
	return func(text string) bool {
		return slices.ContainsFunc(all, func(re *regexp.Regexp) bool { return re.MatchString(text) })
	}, nil
}

// portSpan is the ports that a value of the filters publish and expose names.
type portSpan struct {
	proto       string
	first, last uint16
}

func (s portSpan) has(proto string, port uint16) bool {
	return proto == s.proto && s.first <= port && port <= s.last
}

// portSpans reads PORT and FIRST-LAST, either with /PROTO; without it is TCP.
func portSpans(key string, values []string) ([]portSpan, error) {
	var out []portSpan
	for _, v := range values {
		ports, proto, given := strings.Cut(v, "/")
		proto = strings.ToLower(proto)
		if !given {
			proto = "tcp"
		}
		first, last, ranged := strings.Cut(ports, "-")
		if !ranged {
			last = first
		}
		from, err1 := hostPort(first, v)
		to, err2 := hostPort(last, v)
		if err1 != nil || err2 != nil || to < from || !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
			return nil, fmt.Errorf("invalid filter '%s=%s': want PORT, or FIRST-LAST, of 1 to 65535, and /tcp, /udp or /sctp after it: %w", key, v, errdefs.ErrInvalidArgument)
		}
		out = append(out, portSpan{proto, from, to})
	}
	return out, nil
}

// portFilter is the test of the filters publish, of host ports, and expose, of the
// container's own. As in Docker one that passes either passes both, and only those
// that run have ports.
func (e *Engine) portFilter(filters map[string][]string) (func(Record) bool, error) {
	published, err := portSpans("publish", filters["publish"])
	if err != nil {
		return nil, err
	}
	exposed, err := portSpans("expose", filters["expose"])
	if err != nil {
		return nil, err
	}
	return func(r Record) bool {
		return slices.ContainsFunc(e.portSummaries(r), func(p container.PortSummary) bool {
			return slices.ContainsFunc(published, func(s portSpan) bool { return s.has(p.Type, p.PublicPort) }) ||
				slices.ContainsFunc(exposed, func(s portSpan) bool { return s.has(p.Type, p.PrivatePort) })
		})
	}, nil
}
