package apitest

import (
	"context"
	"time"

	"github.com/fairlead/fairlead/engine"
)

// PauseHealing is told of by Healing.
func (e *Engine) PauseHealing() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.healing.Paused, e.healing.Since = true, time.Unix(1_700_000_000, 0).UTC()
}

// ResumeHealing ends it.
func (e *Engine) ResumeHealing() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.healing.Paused, e.healing.Since = false, time.Time{}
}

// Heal sets what Healing tells besides.
func (e *Engine) Heal(h engine.Healing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.healing = h
}

// Healing returns what Heal was told, with what Differ was told as pending.
func (e *Engine) Healing(context.Context) (engine.Healing, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.healing
	h.Pending = append([]string{}, e.differences...)
	return h, nil
}
