package e2e

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
)

// forFedora is for the package in RPM's format: it has what Debian's has, where
// Fedora has it.
func forFedora(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tags := rpmTags(t, raw)
	var files []string
	for i, name := range tags.texts(rpmBaseNames) {
		files = append(files, tags.texts(rpmDirNames)[tags.numbers(rpmDirIndexes)[i]]+name)
	}
	for _, want := range []string{
		"/usr/bin/fairlead", "/usr/lib/systemd/system/fairlead.service", "/etc/sysconfig/fairlead", "/usr/share/man/man1/fairlead-run.1.gz",
		"/usr/share/bash-completion/completions/fairlead", "/usr/share/zsh/site-functions/_fairlead", "/usr/share/fish/vendor_completions.d/fairlead.fish",
		"/usr/share/doc/fairlead/copyright",
	} {
		if !slices.Contains(files, want) {
			t.Errorf("%s is not in it: %q", want, files)
		}
	}
	if slices.Contains(files, "/etc/default/fairlead") {
		t.Error("Debian's environment file is in it")
	}
	if name := tags.texts(rpmName); !slices.Equal(name, []string{"fairlead"}) {
		t.Errorf("its name: %q", name)
	}
	for _, want := range []string{"containerd", "runc"} {
		if !slices.Contains(tags.texts(rpmRequires), want) {
			t.Errorf("%s is not required: %q", want, tags.texts(rpmRequires))
		}
	}
	for _, script := range []int{rpmPostInstall, rpmPreRemove, rpmPostRemove} {
		if s := tags.texts(script); len(s) != 1 || !strings.HasPrefix(s[0], "#!/bin/sh") {
			t.Errorf("script %d: %q", script, s)
		}
	}
}

// The tags of an RPM header that are looked at (rpm's include/rpm/rpmtag.h).
const (
	rpmName        = 1000
	rpmPostInstall = 1024
	rpmPreRemove   = 1025
	rpmPostRemove  = 1026
	rpmRequires    = 1049
	rpmDirIndexes  = 1116
	rpmBaseNames   = 1117
	rpmDirNames    = 1118
)

// rpmHeader is the main header of a package: values by tag, as they are stored.
type rpmHeader map[int]struct {
	count int
	data  []byte
}

// rpmTags reads the header, which follows a lead of 96 bytes and the header of
// signatures, padded to eight. Each has a magic number, two lengths, an index of
// sixteen bytes an entry, and the data.
func rpmTags(t *testing.T, raw []byte) rpmHeader {
	t.Helper()
	at := 96
	var out rpmHeader
	for range 2 {
		at = (at + 7) / 8 * 8
		if len(raw) < at+16 || !bytes.Equal(raw[at:at+3], []byte{0x8e, 0xad, 0xe8}) {
			t.Fatal("no header of a package")
		}
		entries, size := int(binary.BigEndian.Uint32(raw[at+8:])), int(binary.BigEndian.Uint32(raw[at+12:]))
		index, data := raw[at+16:], raw[at+16+16*entries:][:size]
		out = make(rpmHeader)
		for i := range entries {
			word := func(n int) int { return int(binary.BigEndian.Uint32(index[16*i+4*n:])) }
			out[word(0)] = struct {
				count int
				data  []byte
			}{word(3), data[word(2):]}
		}
		at += 16 + 16*entries + size
	}
	return out
}

// texts are strings that end in a zero.
func (h rpmHeader) texts(tag int) (out []string) {
	rest := h[tag].data
	for range h[tag].count {
		text, after, _ := bytes.Cut(rest, []byte{0})
		out, rest = append(out, string(text)), after
	}
	return out
}

func (h rpmHeader) numbers(tag int) (out []int) {
	for i := range h[tag].count {
		out = append(out, int(binary.BigEndian.Uint32(h[tag].data[4*i:])))
	}
	return out
}
