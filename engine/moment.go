package engine

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// moment reads a point in time as Docker's filters have it: a duration before now,
// a number of seconds since 1970 with or without a fraction, or a date of RFC 3339,
// whole or in part, which is of the daemon's time zone where it names none.
func moment(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && text != "0" {
		return now.Add(-d), nil
	}
	if t, ok := unixTime(text); ok {
		return t, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want a duration as 24h, seconds since 1970, or a date as 2006-01-02T15:04:05Z: %w", text, errdefs.ErrInvalidArgument)
}

// unixTime reads seconds and up to nine digits of a fraction, to the nanosecond.
func unixTime(text string) (time.Time, bool) {
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(fraction) > 9 || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, false
	}
	nanos, _ := strconv.ParseInt(fraction+strings.Repeat("0", 9-len(fraction)), 10, 64) // digits alone
	return time.Unix(seconds, nanos), true
}
