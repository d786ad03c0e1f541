// Package format prints what the commands list: aligned tables, Go templates
// and JSON, as Docker's --format takes them.
//
// It knows how rows are laid out, not what is in them.
package format

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode/utf8"
)

// Listing is a table with named columns. T is the row: a struct of strings whose
// field names are what a template says, as {{.Names}}.
type Listing[T any] struct {
	// Default is the template of the table printed when none is asked for.
	Default string
	// Header is the row with the columns' titles in place of values.
	Header T
}

// Write prints the rows by spec: "" and "table" give the default table,
// "table TEMPLATE" a table of the template's columns (split by \t), "json" one
// object a line, and anything else is a template executed for each row.
func (l Listing[T]) Write(w io.Writer, spec string, rows []T) error {
	switch spec {
	case "json":
		return writeJSON(w, rows)
	case "", "table":
		spec = "table " + l.Default
	}
	layout, isTable := strings.CutPrefix(spec, "table ")
	tmpl, err := Template(layout)
	if err != nil {
		return err
	}
	if !isTable {
		return executeAll(w, tmpl, rows)
	}
	// Docker's own figures: columns at least 10 wide, 3 spaces apart.
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	if err := executeAll(tw, tmpl, slices.Insert(slices.Clone(rows), 0, l.Header)); err != nil {
		return err
	}
	return tw.Flush()
}

func writeJSON[T any](w io.Writer, rows []T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, row := range rows {
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

func executeAll[T any](w io.Writer, tmpl *template.Template, rows []T) error {
	for _, row := range rows {
		if err := tmpl.Execute(w, row); err != nil {
			return templateError(err)
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	return nil
}

// Template parses the text of a --format flag, in which \t and \n stand for a
// tab and a line's end, with Docker's functions: json, join, split, title, lower,
// upper, pad, println, truncate.
func Template(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	tmpl, err := template.New("format").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("invalid --format: %w", templateError(err))
	}
	return tmpl, nil
}

var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return "", err
		}
		return strings.TrimSuffix(b.String(), "\n"), nil
	},
	"join": func(list any, sep string) (string, error) {
		switch list := list.(type) {
		case []string:
			return strings.Join(list, sep), nil
		case []any:
			words := make([]string, len(list))
			for i, v := range list {
				words[i] = fmt.Sprint(v)
			}
			return strings.Join(words, sep), nil
		case nil:
			return "", nil
		}
		return "", fmt.Errorf("join takes a list, not %T", list)
	},
	"split": strings.Split,
	"lower": strings.ToLower,
	"title": func(s string) string {
		if s == "" {
			return s
		}
		return strings.ToUpper(s[:1]) + s[1:]
	},
	"pad": func(s string, before, after int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
	},
	"upper": strings.ToUpper,
	"truncate": func(s string, n int) string {
		if n < 0 || utf8.RuneCountInString(s) <= n {
			return s
		}
		return string([]rune(s)[:n])
	},
}

// templateError drops text/template's place marks, which name our own template.
func templateError(err error) error {
	var exec template.ExecError
	if errors.As(err, &exec) {
		err = exec.Err
	}
	text := err.Error()
	if rest, found := strings.CutPrefix(text, "template: "); found {
		if _, after, found := strings.Cut(rest, ": "); found {
			text = after
		}
	}
	return errors.New(text)
}

// ShortID is an ID as tables show it: the first 12 hex digits, without the
// algorithm's name.
func ShortID(id string) string {
	if _, hex, found := strings.Cut(id, ":"); found {
		id = hex
	}
	return id[:min(12, len(id))]
}

// Ellipsis cuts s to at most n characters, the last an ellipsis where it was
// longer.
func Ellipsis(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
