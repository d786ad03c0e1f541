package distribution

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Refused puts what a registry answered into Docker's words and the engine's kinds
// of error. what is the verb, pull or push.
func Refused(what string, ref reference.Named, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	name := reference.FamiliarName(ref)
	var status remoteerrors.ErrUnexpectedStatus
	code := 0
	if errors.As(err, &status) {
		code = status.StatusCode
	}
	said := Said(err)
	switch {
	case code == http.StatusUnauthorized || errors.Is(err, docker.ErrInvalidAuthorization) || errors.Is(err, errdefs.ErrUnauthenticated):
		if what == "push" {
			return fmt.Errorf("push access denied, repository does not exist or may require authorization: unauthorized: %s; log in with `docker login %s`: %w",
				said, reference.Domain(ref), errdefs.ErrUnauthenticated)
		}
		return fmt.Errorf("pull access denied for %s, repository does not exist or may require 'docker login': unauthorized: %s: %w", name, said, errdefs.ErrNotFound)
	case code == http.StatusForbidden || errors.Is(err, errdefs.ErrPermissionDenied):
		if what == "push" {
			return fmt.Errorf("denied: requested access to the resource is denied: %s: %w", said, errdefs.ErrPermissionDenied)
		}
		return fmt.Errorf("pull access denied for %s, repository does not exist or may require 'docker login': denied: %s: %w", name, said, errdefs.ErrNotFound)
	case what == "pull" && (errdefs.IsNotFound(err) || code == http.StatusNotFound):
		return fmt.Errorf("manifest for %s not found: manifest unknown: %s: %w", reference.FamiliarString(ref), said, errdefs.ErrNotFound)
	case code == http.StatusTooManyRequests:
		return fmt.Errorf("toomanyrequests: %s asks to wait with requests for %s: %s: %w", reference.Domain(ref), name, said, errdefs.ErrResourceExhausted)
	}
	return fmt.Errorf("%s %s: %s: %w", what, reference.FamiliarString(ref), said, Kind(err))
}

// Said is the error's text in one line, without the sentinels' own words.
func Said(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", ": ")
	for _, sentinel := range []error{errdefs.ErrNotFound, errdefs.ErrUnauthenticated, errdefs.ErrPermissionDenied} {
		text = strings.TrimSuffix(text, ": "+sentinel.Error())
	}
	return text
}

// Kind is the sentinel that the error has, or the one for what is not to blame on
// the request.
func Kind(err error) error {
	for _, k := range []error{errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrFailedPrecondition, errdefs.ErrNotImplemented} {
		if errors.Is(err, k) {
			return k
		}
	}
	return errdefs.ErrUnknown
}

// Inside is Refused for what goes wrong once the image is known to be there.
func Inside(ref reference.Named, err error) error {
	var own refusal
	if errors.As(err, &own) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("pull %s: %s: %w", reference.FamiliarString(ref), Said(err), Kind(err))
}

// refusal is an error in words of ours.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Refuse is an error that Inside leaves as it is.
func Refuse(sentinel error, format string, args ...any) error {
	return refusal{fmt.Errorf(format+": %w", append(args, sentinel)...)}
}

// NoRange says whether the registry would begin, but not where an attempt ended.
func NoRange(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	return errors.As(err, &status) && status.StatusCode == http.StatusRequestedRangeNotSatisfiable
}

// Transient says whether it may help to ask again: the connection failed, not the
// request.
func Transient(err error) bool {
	for _, final := range []func(error) bool{
		errdefs.IsNotFound, errdefs.IsInvalidArgument, errdefs.IsPermissionDenied, errdefs.IsUnauthorized, errdefs.IsNotImplemented,
	} {
		if final(err) {
			return false
		}
	}
	return true
}
