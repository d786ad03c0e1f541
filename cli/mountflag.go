package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"
)

// parseMount reads --mount, type=TYPE,KEY=VALUE,…. A key without a value is true.
func parseMount(text string) (mount.Mount, error) {
	m := mount.Mount{Type: mount.TypeVolume} // as Docker, where none is named
	fields, err := csvFields(text)
	if err != nil {
		return m, fmt.Errorf("invalid --mount %q: %w", text, err)
	}
	for _, field := range fields {
		key, value, given := strings.Cut(field, "=")
		if err := setMount(&m, strings.ToLower(key), value, given); err != nil {
			return m, fmt.Errorf("invalid --mount %q: %s: %w", text, key, err)
		}
	}
	switch {
	case m.Type != mount.TypeBind && m.Type != mount.TypeTmpfs:
		return m, fmt.Errorf("invalid --mount %q: type %s is not supported: want type=bind or type=tmpfs", text, m.Type)
	case m.Target == "":
		return m, fmt.Errorf("invalid --mount %q: target= is missing", text)
	case m.Type == mount.TypeBind && m.Source == "":
		return m, fmt.Errorf("invalid --mount %q: source= is missing", text)
	case m.Type == mount.TypeTmpfs && m.Source != "":
		return m, fmt.Errorf("invalid --mount %q: a tmpfs has no source", text)
	case m.Type == mount.TypeTmpfs && m.BindOptions != nil:
		return m, fmt.Errorf("invalid --mount %q: bind options go with type=bind", text)
	case m.Type == mount.TypeBind && m.TmpfsOptions != nil:
		return m, fmt.Errorf("invalid --mount %q: tmpfs options go with type=tmpfs", text)
	}
	return m, nil
}

// setMount sets one key.
func setMount(m *mount.Mount, key, value string, given bool) error {
	if !given && key != "readonly" && key != "ro" {
		return errors.New("want KEY=VALUE")
	}
	bind := func() *mount.BindOptions {
		if m.BindOptions == nil {
			m.BindOptions = &mount.BindOptions{}
		}
		return m.BindOptions
	}
	tmpfs := func() *mount.TmpfsOptions {
		if m.TmpfsOptions == nil {
			m.TmpfsOptions = &mount.TmpfsOptions{}
		}
		return m.TmpfsOptions
	}
	var err error
	switch key {
	case "type":
		m.Type = mount.Type(strings.ToLower(value))
	case "source", "src":
		m.Source = value
		// The daemon does not know where we are.
		if strings.HasPrefix(value, ".") {
			m.Source, err = filepath.Abs(value)
		}
	case "target", "dst", "destination":
		m.Target = value
	case "readonly", "ro":
		m.ReadOnly, err = flagValue(value, given)
	case "bind-propagation":
		bind().Propagation = mount.Propagation(strings.ToLower(value))
	case "bind-create-src":
		bind().CreateMountpoint, err = flagValue(value, given)
	case "bind-recursive":
		if value != "enabled" && value != "disabled" {
			return errors.New("want enabled or disabled")
		}
		bind().NonRecursive = value == "disabled"
	case "tmpfs-size":
		tmpfs().SizeBytes, err = units.RAMInBytes(value)
	case "tmpfs-mode":
		mode, err := strconv.ParseUint(value, 8, 32)
		if err != nil {
			return errors.New("want an octal number, as 1770")
		}
		tmpfs().Mode = os.FileMode(mode)
	default:
		return errors.New("unknown key: want type, source, target, readonly, bind-propagation, bind-recursive, bind-create-src, tmpfs-size or tmpfs-mode")
	}
	return err
}

// flagValue is true for a key that stands alone.
func flagValue(value string, given bool) (bool, error) {
	if !given {
		return true, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, errors.New("want true or false")
	}
	return b, nil
}
