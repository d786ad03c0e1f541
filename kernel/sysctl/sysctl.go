// Package sysctl reads and writes kernel parameters by way of /proc/sys.
//
// Parameters under net belong to a network namespace: each call works on that of
// the calling thread, SetIn on the one it is given. What values are wanted, and
// what to restore at the end, is the caller's to know.
package sysctl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/kernel/netns"
)

const root = "/proc/sys"

// Name is a parameter's key in the spelling with dots, as sysctl(8) prints it.
func Name(key string) string {
	if i := strings.IndexAny(key, "./"); i < 0 || key[i] == '.' {
		return key
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(key)
}

// Path returns the file of a parameter. As with sysctl(8), the first separator
// tells which kind is used: in net.ipv4.conf.eth0/1.forwarding a dot separates and
// a slash stands for a dot within a name (here eth0.1), in
// net/ipv4/conf/eth0.1/forwarding it is the other way round. A key that is
// malformed gives errdefs.ErrInvalidArgument.
func Path(key string) (string, error) {
	var parts []string
	switch i := strings.IndexAny(key, "./"); {
	case i < 0:
		parts = []string{key}
	case key[i] == '/':
		parts = strings.Split(key, "/")
	default:
		parts = strings.Split(key, ".")
		for i, p := range parts {
			parts[i] = strings.ReplaceAll(p, "/", ".")
		}
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.ContainsAny(p, "\x00\n \t") {
			return "", fmt.Errorf("invalid sysctl %q: want a key such as net.ipv4.ip_forward: %w", key, errdefs.ErrInvalidArgument)
		}
	}
	return filepath.Join(append([]string{root}, parts...)...), nil
}

// Get returns a parameter's value without the newline. One that this kernel or
// namespace lacks gives errdefs.ErrNotFound.
func Get(key string) (string, error) {
	path, err := Path(key)
	if err != nil {
		return "", err
	}
	if err := faultpoint.Here("sysctl.read"); err != nil {
		return "", explain("read", key, err)
	}
	f, err := private.open(path, os.O_RDONLY)
	if err != nil {
		return "", explain("read", key, err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", explain("read", key, err)
	}
	return strings.TrimRight(string(b), "\n"), nil
}

// Set writes a parameter and returns the value it had; nothing is written when it
// has that value already. A value that the kernel refuses gives
// errdefs.ErrInvalidArgument, a parameter that is absent errdefs.ErrNotFound.
func Set(key, value string) (old string, err error) {
	// Some, such as net.ipv4.route.flush, can only be written.
	old, err = Get(key)
	if err != nil && !errdefs.IsPermissionDenied(err) {
		return "", err
	}
	if err == nil && old == value {
		return old, nil
	}
	return old, write(key, value)
}

// write opens without O_CREAT: a key that is absent must not look like one that
// cannot be made.
func write(key, value string) error {
	if strings.ContainsAny(value, "\x00\n") {
		return fmt.Errorf("invalid value %q of sysctl %s: %w", value, key, errdefs.ErrInvalidArgument)
	}
	path, err := Path(key)
	if err != nil {
		return err
	}
	if err := faultpoint.Here("sysctl.write"); err != nil {
		return explain("set", key+"="+value, err)
	}
	f, err := private.open(path, os.O_WRONLY)
	if err != nil {
		return explain("set", key+"="+value, err)
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return explain("set", key+"="+value, err)
	}
	return nil
}

// SetIn sets the parameters in the namespace, in the order of their keys; nil is
// the calling thread's. It stops at the first that fails.
func SetIn(ns *os.File, values map[string]string) error {
	if len(values) == 0 {
		return nil
	}
	return netns.Do(ns, func() error {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if err := write(key, values[key]); err != nil {
				return err
			}
		}
		return nil
	})
}

// explain gives an error its class and names the parameter, not the file.
func explain(op, key string, err error) error {
	var class error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		class = errdefs.ErrNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		class = errdefs.ErrPermissionDenied
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.EISDIR):
		class = errdefs.ErrInvalidArgument
	default:
		return fmt.Errorf("%s sysctl %s: %w", op, key, err)
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return &failure{fmt.Sprintf("%s sysctl %s: %v", op, key, err), []error{err, class}}
}

// failure is an error of more than one class that reads as one sentence.
type failure struct {
	text   string
	causes []error
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return f.causes }
