package events

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

func publish(b *Bus, from, to int) {
	for i := from; i < to; i++ {
		b.Publish(events.Message{Actor: events.Actor{ID: fmt.Sprint(i)}, TimeNano: int64(i + 1)})
	}
}

func TestListenersReadEachMessageOnce(t *testing.T) {
	t.Parallel()
	b := New()
	publish(b, 0, 10)
	early, late := b.ListenSince(time.Unix(0, 5)), b.Listen()
	publish(b, 10, 3*Kept/2)
	for name, want := range map[*Listener]struct {
		first string
		lost  uint64
	}{early: {fmt.Sprint(Kept / 2), Kept/2 - 4}, late: {fmt.Sprint(Kept / 2), Kept/2 - 10}} {
		got, lost, err := name.Next(t.Context())
		if len(got) != Batch {
			t.Errorf("%d messages are handed out at once", len(got))
		}
		for more, _ := name.Ready(); len(more) > 0; more, _ = name.Ready() {
			got = append(got, more...)
		}
		if err != nil || len(got) != Kept || lost != want.lost || got[0].Actor.ID != want.first || got[Kept-1].Actor.ID != fmt.Sprint(3*Kept/2-1) {
			t.Errorf("read %d messages, lost %d, want %d: %v", len(got), lost, want.lost, err)
		}
	}
	publish(b, 7000, 7003)
	if got, lost := late.Ready(); len(got) != 3 || lost != 0 || got[0].Actor.ID != "7000" {
		t.Errorf("then read %v, lost %d", got, lost)
	}
}

func TestAListenerWaits(t *testing.T) {
	t.Parallel()
	b := New()
	l := b.Listen()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := l.Next(ctx); err == nil {
		t.Error("there was a message before any was published")
	}
	time.AfterFunc(10*time.Millisecond, func() { b.Publish(events.Message{Action: events.ActionStart}) })
	got, _, err := l.Next(t.Context())
	if err != nil || len(got) != 1 || got[0].Action != events.ActionStart || got[0].Time == 0 {
		t.Errorf("read %v: %v", got, err)
	}
}
