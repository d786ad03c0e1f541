package panics_test

import (
	"errors"
	"io"
	"testing"

	"github.com/fairlead/fairlead/internal/panics"
)

func TestCatch(t *testing.T) {
	var nothing *struct{ x int }
	for name, test := range map[string]struct {
		f    func() error
		want error
	}{
		"panic": {func() error { nothing.x = 1; return nil }, panics.ErrPanic},
		"error": {func() error { return io.EOF }, io.EOF},
		"none":  {func() error { return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := func() (err error) {
				defer panics.Catch(&err)
				return test.f()
			}()
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
		})
	}
}
