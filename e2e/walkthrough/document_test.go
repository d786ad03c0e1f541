package walkthrough

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = "# A title\n\n" +
	"<!-- until $ curl -s http://192.0.2.1/ -->\nText with `$ code` in it.\n\n" +
	"```console\n$ ip -br link \\\n    show lo\nlo UNKNOWN\n# not a prompt\noutside$ true\nweb# cat <<'END' | wc -l\none\nEND\n1\n```\n\n" +
	"```sh\n$ not run\n```\n<!-- outside$ ip link del x -->\nThe end\n"

func TestParse(t *testing.T) {
	t.Parallel()
	d, err := Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	want := []*Step{
		{Prompt: "$", Command: "curl -s http://192.0.2.1/", Hidden: true, Until: true, Line: 3},
		{Prompt: "$", Command: "ip -br link \\\n    show lo", Output: "lo UNKNOWN\n# not a prompt\n", Line: 7},
		{Prompt: "outside$", Command: "true", Line: 11},
		{Prompt: "web#", Command: "cat <<'END' | wc -l\none\nEND", Output: "1\n", Line: 12},
		{Prompt: "outside$", Command: "ip link del x", Hidden: true, Line: 21},
	}
	if diff := cmp.Diff(want, d.Steps()); diff != "" {
		t.Errorf("steps:\n%s", diff)
	}
	if d.String() != sample {
		t.Errorf("it is written as\n%s", d)
	}
	d.Steps()[2].Output = "new\n"
	d.Steps()[0].Output = "never shown\n"
	if got := d.String(); got != strings.Replace(sample, "outside$ true\n", "outside$ true\nnew\n", 1) {
		t.Errorf("with another output it is\n%s", got)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"```console\nlo UNKNOWN\n```\n":      "line 2: a console block begins with",
		"text\n```console\n$ ls\n":           "has no end",
		"```sh\n$ ls\n":                      "has no end",
		"```console\n$ cat <<END\n1\n":       "has no end",
		"```console\n$ ls \\\n":              "has no end",
		"```console\n$\n```\n":               "begins with a prompt",
		"```console\n$ a\n```\n```console\n": "has no end",
	} {
		if d, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", text, d, err, want)
		}
	}
}

func TestAmbiguous(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		"":                               "",
		"one\n  $ two\n#!/bin/sh\n# x\n": "",
		"one\n$ two\n":                   "$ two",
		"red# ls\n":                      "red# ls",
		"```\n":                          "```",
	} {
		if got := Ambiguous(output); got != want {
			t.Errorf("%q: %q, want %q", output, got, want)
		}
	}
}

// FuzzParse: whatever is parsed is written as it was.
func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("```console\n$ ls")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err == nil && strings.TrimSuffix(d.String(), "\n") != strings.TrimSuffix(text, "\n") {
			t.Errorf("%q is written as %q", text, d)
		}
	})
}
