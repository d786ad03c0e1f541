package throwaway

import (
	"fmt"
	"slices"
	"strings"
)

// Choose is what a flag whose value is words, by commas, chooses of all that there are; ""
// chooses all. A word that is none of them is refused by name.
func Choose(flag, value string, all []string) ([]string, error) {
	if value == "" {
		return all, nil
	}
	words := strings.Split(value, ",")
	for _, w := range words {
		if !slices.Contains(all, w) {
			return nil, fmt.Errorf("-%s %s: there is no %q; there are %s", flag, value, w, strings.Join(slices.Compact(slices.Clone(all)), ", "))
		}
	}
	return words, nil
}
