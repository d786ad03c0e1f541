package nft

import (
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// Error is a change that the kernel refused, and with it the whole transaction.
type Error struct {
	// Change is the one that failed; nil when it was the commit of all.
	Change ruleset.Change
	// Errno is the kernel's answer.
	Errno unix.Errno
	// Detail is what the kernel said beside it, if anything.
	Detail string

	err error
}

// Error names the change, the cause and what it says about the way out.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("nft: ")
	if e.Change != nil {
		b.WriteString(brief(e.Change.String()))
		b.WriteString(": ")
	}
	if e.err != nil {
		b.WriteString(e.err.Error())
		return b.String()
	}
	b.WriteString(e.Errno.Error())
	if e.Detail != "" {
		b.WriteString(" (" + e.Detail + ")")
	}
	switch {
	case errors.Is(e.Errno, unix.EPERM):
		b.WriteString("; another program owns the table, or CAP_NET_ADMIN is missing")
	case errors.Is(e.Errno, unix.EOPNOTSUPP):
		b.WriteString("; the kernel lacks a feature of nf_tables that this needs")
	}
	return b.String()
}

// Unwrap gives the kernel's answer and its kind in errdefs.
func (e *Error) Unwrap() []error {
	if e.err != nil {
		return []error{e.err}
	}
	out := []error{e.Errno}
	for errno, kind := range map[unix.Errno]error{
		unix.ENOENT:     errdefs.ErrNotFound,
		unix.EEXIST:     errdefs.ErrAlreadyExists,
		unix.EBUSY:      errdefs.ErrConflict,
		unix.EPERM:      errdefs.ErrPermissionDenied,
		unix.EOPNOTSUPP: errdefs.ErrNotImplemented,
		unix.ENOMEM:     errdefs.ErrResourceExhausted,
	} {
		if e.Errno == errno {
			out = append(out, kind)
		}
	}
	return out
}

// failure makes the error of a refused batch: the first message that could not
// be forgiven.
func failure(changes []ruleset.Change, b *batch, failures []failed) error {
	pick := failures[0]
	for _, f := range failures {
		if f.part < 0 || !b.parts[f.part].forgive || !errors.Is(f.errno, unix.ENOENT) {
			pick = f
			break
		}
	}
	e := &Error{Errno: pick.errno, Detail: pick.detail}
	if pick.part >= 0 {
		p := b.parts[pick.part]
		e.Change = changes[p.change]
		if p.about != "" && e.Detail == "" {
			e.Detail = p.about
		} else if p.about != "" {
			e.Detail = p.about + ": " + e.Detail
		}
	}
	return e
}

// brief is the first line of a command, cut where it gets long.
func brief(s string) string {
	const most = 160
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > most {
		s = s[:most] + " …"
	}
	return s
}
