// Package logconfig decides how a container's output is logged: it reads the
// options of Docker's log drivers and says what the streams process is to do.
//
// It is pure: what it needs to know of the container it is told.
package logconfig

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/streams"
	"github.com/fairlead/fairlead/streams/journal"
)

// The log drivers there are. Local is the file that Docker lets nobody but itself
// read: it is as that of JSON, and of limited size unless told otherwise.
const (
	JSON     = "json-file"
	Journald = "journald"
	Local    = "local"
	None     = "none"
)

// Drivers are their names, sorted.
var Drivers = []string{Journald, JSON, Local, None}

// defaultBuffer is how much waits for a log in the mode non-blocking, in bytes.
const defaultBuffer = 1 << 20

// everyDriver are the options that all drivers have.
var everyDriver = []string{"mode", "max-buffer-size"}

// ofDriver are those of one.
var ofDriver = map[string][]string{
	JSON:     {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
	Journald: {"labels", "labels-regex", "env", "env-regex", "tag"},
	Local:    {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
}

// ofLocal are Docker's for what a Local does not say.
var ofLocal = map[string]string{"max-size": "20m", "max-file": "5", "compress": "true"}

// Merge fills in what a container leaves open: the driver, and those options of
// the daemon's that are for the same driver.
func Merge(c, daemon container.LogConfig) container.LogConfig {
	if daemon.Type == "" {
		daemon.Type = JSON
	}
	if c.Type == "" {
		c.Type = daemon.Type
	}
	options := make(map[string]string)
	if c.Type == daemon.Type {
		maps.Copy(options, daemon.Config)
	}
	maps.Copy(options, c.Config)
	c.Config = options
	return c
}

// Check refuses a driver that is not there, options that it does not have, and
// values that they cannot have. The error is errdefs.ErrInvalidArgument, in
// Docker's words where clients look at them.
func Check(c container.LogConfig) error {
	_, err := Logging(c, Container{})
	return err
}

// Logging is what the streams process is to do for a container, beside opening a
// file.
func Logging(c container.LogConfig, about Container) (streams.Logging, error) {
	var out streams.Logging
	if !slices.Contains(Drivers, c.Type) {
		return out, fmt.Errorf("logger: no log driver named '%s' is registered: --log-driver (HostConfig.LogConfig.Type) is one of %s: %w",
			c.Type, strings.Join(Drivers, ", "), errdefs.ErrInvalidArgument)
	}
	if c.Type == None {
		return out, nil // Docker looks at none of its options
	}
	for _, key := range slices.Sorted(maps.Keys(c.Config)) {
		if !slices.Contains(everyDriver, key) && !slices.Contains(ofDriver[c.Type], key) {
			return out, fmt.Errorf("unknown log opt '%s' for %s log driver: --log-opt (HostConfig.LogConfig.Config) is one of %s: %w",
				key, c.Type, strings.Join(append(slices.Clone(ofDriver[c.Type]), everyDriver...), ", "), errdefs.ErrInvalidArgument)
		}
	}
	o := options{values: c.Config}
	if c.Type == Local {
		o.values = maps.Clone(ofLocal)
		maps.Copy(o.values, c.Config)
		if o.values["max-file"] == "1" && c.Config["compress"] == "" {
			delete(o.values, "compress") // there is nothing to be packed
		}
	}
	out.Buffer = o.buffer()
	attrs := o.attributes(about)
	switch c.Type {
	case JSON, Local:
		o.files(&out)
		if tag := o.tag(about, ""); tag != "" {
			attrs["tag"] = tag
		}
		if len(attrs) > 0 {
			out.Attrs = attrs
		}
	case Journald:
		out.Journal = journalFields(about, o.tag(about, "{{.ID}}"), attrs)
	}
	return out, o.err
}

// options reads values and keeps the first error.
type options struct {
	values map[string]string
	err    error
}

func (o *options) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
}

// buffer is how much may wait; 0 is the mode blocking.
func (o *options) buffer() int64 {
	mode := o.values["mode"]
	text, given := o.values["max-buffer-size"]
	switch mode {
	case "", string(container.LogModeBlocking):
		if given {
			o.fail("logger: max-buffer-size option is only supported with 'mode=%s'", container.LogModeNonBlock)
		}
		return 0
	case string(container.LogModeNonBlock):
	default:
		o.fail("logger: logging mode not supported: %s", mode)
		return 0
	}
	if !given {
		return defaultBuffer
	}
	size, err := units.RAMInBytes(text)
	if err != nil {
		o.fail("error parsing option max-buffer-size: %s", err)
	} else if size <= 0 {
		o.fail("max-buffer-size must be a positive number of bytes, not %q", text)
	}
	return size
}

// files reads the options of a file's size and number.
func (o *options) files(out *streams.Logging) {
	files := 1
	if text, given := o.values["max-size"]; given {
		size, err := units.FromHumanSize(text)
		switch {
		case err != nil:
			o.fail("max-size: %s", err)
		case size <= 0:
			o.fail("max-size must be a positive number")
		}
		out.MaxSize = size
	}
	if text, given := o.values["max-file"]; given {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil:
			o.fail("max-file %q is no number", text)
		case n < 1:
			o.fail("max-file cannot be less than 1")
		}
		files = n
	}
	if text, given := o.values["compress"]; given {
		compress, err := strconv.ParseBool(text)
		switch {
		case err != nil:
			o.fail("compress %q is neither true nor false", text)
		case compress && (files < 2 || out.MaxSize <= 0):
			o.fail("compress cannot be true when max-file is less than 2 or max-size is not set")
		}
		out.Compress = compress
	}
	if out.MaxSize > 0 {
		out.MaxFiles = files
	}
}

// journalFields are those of each of the container's entries: Docker's, and the
// attributes by names that fields can have. An attribute takes no field from it.
func journalFields(about Container, tag string, attrs map[string]string) map[string]string {
	out := make(map[string]string)
	for key, value := range attrs {
		if name := journal.FieldName(key); name != "" {
			out[name] = value
		}
	}
	maps.Copy(out, map[string]string{
		"CONTAINER_ID": about.ID(), "CONTAINER_ID_FULL": about.ContainerID, "CONTAINER_NAME": about.Name(),
		"CONTAINER_TAG": tag, "IMAGE_NAME": about.ImageName(), "SYSLOG_IDENTIFIER": tag,
	})
	return out
}
