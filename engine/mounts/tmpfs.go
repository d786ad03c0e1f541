package mounts

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// flags of a tmpfs by what they set; the last of a kind wins.
var flags = map[string]string{
	"ro": "write", "rw": "write", "suid": "suid", "nosuid": "suid", "dev": "dev", "nodev": "dev", "exec": "exec", "noexec": "exec",
	"sync": "sync", "async": "sync", "dirsync": "dirsync", "remount": "remount", "mand": "mand", "nomand": "mand",
	"atime": "atime", "noatime": "atime", "diratime": "diratime", "nodiratime": "diratime", "bind": "bind", "rbind": "bind",
	"relatime": "relatime", "norelatime": "relatime", "strictatime": "strictatime", "nostrictatime": "strictatime",
	"private": "propagation", "rprivate": "propagation", "shared": "propagation", "rshared": "propagation",
	"slave": "propagation", "rslave": "propagation", "unbindable": "propagation", "runbindable": "propagation", "defaults": "defaults",
}

// values of a tmpfs, KEY=VALUE; see tmpfs(5).
var values = map[string]*regexp.Regexp{
	"size": regexp.MustCompile(`^[0-9]+[kKmMgGtTpPeE%]?$`), "nr_blocks": regexp.MustCompile(`^[0-9]+[kKmMgGtTpPeE]?$`),
	"nr_inodes": regexp.MustCompile(`^[0-9]+[kKmMgGtTpPeE]?$`), "mode": regexp.MustCompile(`^[0-7]{1,6}$`),
	"uid": regexp.MustCompile(`^[0-9]{1,10}$`), "gid": regexp.MustCompile(`^[0-9]{1,10}$`), "mpol": regexp.MustCompile(`.`),
}

// tmpfsDefaults are Docker's.
var tmpfsDefaults = []string{"noexec", "nosuid", "nodev"}

// mergeTmpfs puts the user's options over the defaults. A word that is none is
// errdefs.ErrInvalidArgument.
func mergeTmpfs(options []string) ([]string, error) {
	kindOf := func(o string) (string, bool) {
		key, value, isValue := strings.Cut(o, "=")
		if isValue {
			form := values[key]
			return key, form != nil && form.MatchString(value)
		}
		kind, known := flags[o]
		return kind, known
	}
	var out []string
	for _, o := range append(slices.Clone(tmpfsDefaults), options...) {
		kind, known := kindOf(o)
		switch {
		case !known || kind == "bind" || kind == "remount":
			return nil, fmt.Errorf("invalid tmpfs option [%q]: %w", o, errdefs.ErrInvalidArgument)
		case kind == "defaults":
			continue
		}
		out = slices.DeleteFunc(out, func(earlier string) bool { k, _ := kindOf(earlier); return k == kind })
		out = append(out, o)
	}
	return out, nil
}

// tmpfsOptions are those of a --mount of the type.
func tmpfsOptions(in mount.Mount) ([]string, error) {
	var out []string
	if in.ReadOnly {
		out = append(out, "ro")
	}
	if o := in.TmpfsOptions; o != nil {
		switch {
		case o.SizeBytes < 0:
			return nil, wrong("TmpfsOptions.SizeBytes is negative: %d", o.SizeBytes)
		case o.SizeBytes > 0:
			out = append(out, fmt.Sprintf("size=%d", o.SizeBytes))
		}
		if o.Mode != 0 {
			out = append(out, fmt.Sprintf("mode=%o", o.Mode))
		}
		for _, words := range o.Options {
			if len(words) < 1 || len(words) > 2 {
				return nil, wrong("TmpfsOptions.Options of the mount at %s: %q is neither a word nor a key and a value", in.Target, words)
			}
			out = append(out, strings.Join(words, "="))
		}
	}
	return mergeTmpfs(out)
}

func checkTmpfs(list map[string]string) error {
	_, err := Tmpfs(list)
	return err
}

// Tmpfs are the mounts of --tmpfs, path to options.
func Tmpfs(list map[string]string) ([]specs.Mount, error) {
	var out []specs.Mount
	seen := make(map[string]bool)
	for _, dst := range slices.Sorted(maps.Keys(list)) {
		clean, err := destination(dst)
		if err != nil {
			return nil, fmt.Errorf("invalid tmpfs mount: %w", err)
		}
		if seen[clean] {
			return nil, fmt.Errorf("Duplicate mount point: %s: %w", clean, errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
		}
		seen[clean] = true
		options, err := mergeTmpfs(strings.FieldsFunc(list[dst], func(r rune) bool { return r == ',' }))
		if err != nil {
			return nil, err
		}
		out = append(out, tmpfs(path.Clean(dst), options))
	}
	return out, nil
}

func tmpfs(dst string, options []string) specs.Mount {
	if !slices.ContainsFunc(options, func(o string) bool { return flags[o] == "propagation" }) {
		options = append(options, "rprivate")
	}
	return specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: dst, Options: options}
}
