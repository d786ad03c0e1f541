package cli

import (
	"encoding/csv"
	"fmt"
	"strings"

	"github.com/moby/moby/client"
	"github.com/spf13/pflag"
)

// alias makes flags known by other names too, the keys, without showing them twice.
func alias(names map[string]string) func(*pflag.FlagSet, string) pflag.NormalizedName {
	return func(_ *pflag.FlagSet, given string) pflag.NormalizedName {
		if name, found := names[given]; found {
			given = name
		}
		return pflag.NormalizedName(given)
	}
}

// filters turns -f KEY=VALUE flags into what the API takes.
func filters(flags []string) (client.Filters, error) {
	out := client.Filters{}
	for _, flag := range flags {
		key, value, found := strings.Cut(flag, "=")
		if !found || key == "" {
			return nil, usageError{fmt.Errorf("invalid --filter %q: want KEY=VALUE", flag)}
		}
		out.Add(strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value))
	}
	return out, nil
}

// csvFields splits a flag's value at its commas. A field that has commas itself is
// quoted, as in a CSV file (RFC 4180).
func csvFields(value string) ([]string, error) {
	reader := csv.NewReader(strings.NewReader(value))
	fields, err := reader.Read()
	if err != nil {
		return nil, fmt.Errorf("want fields with commas between, in double quotes where one has a comma: %w", err)
	}
	return fields, nil
}
