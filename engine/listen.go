package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/events"
)

// EventsOptions say what a listener wants to hear.
type EventsOptions struct {
	// Since and Until are points in time: a duration before now, a number of seconds
	// since 1970 with or without a fraction, or a date of RFC 3339, whole or in part.
	// Without Since nothing of the past is told, unless Until is there; without Until
	// there is no end.
	Since, Until string
	// Filters are Docker's: container, daemon, event, image, label, network, plugin,
	// scope, type, volume, and those of a swarm, which nothing matches here.
	Filters map[string][]string
}

// Events hands over what happens, in order, until ctx or the engine ends, or what
// Until says. tell is called first as soon as nothing that happens can be missed any
// more, with what is past, which may be nothing. A listener may be as slow as it
// likes: it holds nobody up, and loses the oldest when it is events.Kept behind, which it
// is told in their place.
func (e *Engine) Events(ctx context.Context, options EventsOptions, tell func([]apievents.Message) error) error {
	now := time.Now()
	since, until, err := options.span(now)
	if err != nil {
		return err
	}
	wanted, err := eventFilter(options.Filters)
	if err != nil {
		return err
	}
	listener := e.events.Listen()
	if !since.IsZero() || !until.IsZero() {
		listener = e.events.ListenSince(since)
	}
	e.listeners.Add(1)
	defer e.listeners.Add(-1)
	ctx, cancel := e.whileListening(ctx, until)
	defer cancel()
	messages, lost := listener.Ready()
	for listening := true; listening; {
		over := !until.IsZero() && len(messages) > 0 && messages[len(messages)-1].TimeNano > until.UnixNano()
		messages = slices.DeleteFunc(messages, func(m apievents.Message) bool {
			return !wanted(m) || (!until.IsZero() && m.TimeNano > until.UnixNano())
		})
		if lost > 0 {
			messages = slices.Insert(messages, 0, e.gap(lost))
		}
		err := tell(messages)
		if err != nil || over {
			return err
		}
		messages, lost, listening = e.nextEvents(ctx, listener)
	}
	return nil
}

// nextEvents waits for the next messages, and says so in the log where some were
// lost. It returns false when ctx has ended and there are none.
func (e *Engine) nextEvents(ctx context.Context, l *events.Listener) (messages []apievents.Message, lost uint64, listening bool) {
	messages, lost, err := l.Next(ctx)
	if lost > 0 {
		e.log.Warn("a listener to events is too slow and lost some", "operation", "events", "lost", lost)
	}
	return messages, lost, err == nil
}

// gap stands in a listener's stream, whatever it filters, where events were dropped
// because it was too slow to read them.
func (e *Engine) gap(lost uint64) apievents.Message {
	now := time.Now()
	return apievents.Message{
		Type: apievents.DaemonEventType, Action: "lost", Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
		Actor: apievents.Actor{ID: e.cfg.Info.ID, Attributes: map[string]string{"count": strconv.FormatUint(lost, 10)}},
	}
}

// whileListening is ctx until the engine ends, or the time, where it is set.
func (e *Engine) whileListening(ctx context.Context, until time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.life, cancel)
	if until.IsZero() {
		return ctx, func() { stop(); cancel() }
	}
	ctx, end := context.WithDeadline(ctx, until)
	return ctx, func() { stop(); end(); cancel() }
}

// span reads the two times, zero where there is none.
func (o EventsOptions) span(now time.Time) (since, until time.Time, err error) {
	for _, side := range []struct {
		name, text string
		to         *time.Time
	}{{"since", o.Since, &since}, {"until", o.Until, &until}} {
		if side.text == "" {
			continue
		}
		if *side.to, err = moment(side.text, now); err != nil {
			return since, until, fmt.Errorf("invalid value for %s: %w", side.name, err)
		}
	}
	if !until.IsZero() && until.Before(since) {
		return since, until, fmt.Errorf("`since` time (%s) cannot be after `until` time (%s): %w", o.Since, o.Until, errdefs.ErrInvalidArgument)
	}
	return since, until, nil
}
