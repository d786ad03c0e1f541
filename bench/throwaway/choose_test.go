package throwaway

import (
	"slices"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	all := []string{"1", "2", "2", "10"}
	for value, want := range map[string][]string{"": all, "2": {"2"}, "10,1": {"10", "1"}} {
		if got, err := Choose("rows", value, all); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", value, got, err)
		}
	}
	for _, value := range []string{"99", "1,99", "1,", " 1"} {
		if got, err := Choose("rows", value, all); err == nil || !strings.Contains(err.Error(), "there are 1, 2, 10") {
			t.Errorf("%q: %v, %v", value, got, err)
		}
	}
}
