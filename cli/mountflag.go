package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	if err := checkMount(m); err != nil {
		return m, fmt.Errorf("invalid --mount %q: %w", text, err)
	}
	return m, nil
}

// checkMount refuses what cannot go together.
func checkMount(m mount.Mount) error {
	switch {
	case m.Type != mount.TypeBind && m.Type != mount.TypeTmpfs && m.Type != mount.TypeVolume && m.Type != mount.TypeImage:
		return fmt.Errorf("type %s is not supported: want type=volume, type=bind or type=tmpfs", m.Type)
	case m.Target == "":
		return errors.New("target= is missing")
	case m.Type == mount.TypeBind && m.Source == "":
		return errors.New("source= is missing")
	case m.Type == mount.TypeTmpfs && m.Source != "":
		return errors.New("a tmpfs has no source")
	case m.Type != mount.TypeBind && m.BindOptions != nil:
		return errors.New("bind options go with type=bind")
	case m.Type != mount.TypeTmpfs && m.TmpfsOptions != nil:
		return errors.New("tmpfs options go with type=tmpfs")
	case m.Type != mount.TypeVolume && m.VolumeOptions != nil:
		return errors.New("volume options go with type=volume")
	case m.Type != mount.TypeImage && m.ImageOptions != nil:
		return errors.New("image options go with type=image")
	}
	return nil
}

// setMount sets one key.
func setMount(m *mount.Mount, key, value string, given bool) error {
	if !given && !slices.Contains([]string{"readonly", "ro", "volume-nocopy", "bind-create-src", "bind-nonrecursive"}, key) {
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
	if strings.HasPrefix(key, "volume-") {
		return setVolumeMount(m, key, value, given)
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
		return setRecursive(bind(), value)
	case "bind-nonrecursive": // docker's older name
		bind().NonRecursive, err = flagValue(value, given)
	case "consistency":
		m.Consistency = mount.Consistency(strings.ToLower(value))
	case "image-subpath":
		m.ImageOptions = &mount.ImageOptions{Subpath: value}
	case "tmpfs-size":
		tmpfs().SizeBytes, err = units.RAMInBytes(value)
	case "tmpfs-mode":
		mode, err := strconv.ParseUint(value, 8, 32)
		if err != nil {
			return errors.New("want an octal number, as 1770")
		}
		tmpfs().Mode = os.FileMode(mode)
	default:
		return errors.New("unknown key: want type, source, target, readonly, volume-nocopy, volume-subpath, volume-label, volume-driver, volume-opt, bind-propagation, bind-recursive, bind-create-src, tmpfs-size or tmpfs-mode")
	}
	return err
}

// setVolumeMount sets one key of a volume's.
func setVolumeMount(m *mount.Mount, key, value string, given bool) error {
	if m.VolumeOptions == nil {
		m.VolumeOptions = &mount.VolumeOptions{}
	}
	options := m.VolumeOptions
	driver := func() *mount.Driver {
		if options.DriverConfig == nil {
			options.DriverConfig = &mount.Driver{}
		}
		return options.DriverConfig
	}
	pair := func(into *map[string]string) error {
		name, text, found := strings.Cut(value, "=")
		if !found || name == "" {
			return errors.New("want KEY=VALUE")
		}
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[name] = text
		return nil
	}
	var err error
	switch key {
	case "volume-nocopy":
		options.NoCopy, err = flagValue(value, given)
	case "volume-subpath":
		options.Subpath = value
	case "volume-label":
		err = pair(&options.Labels)
	case "volume-driver":
		driver().Name = value
	case "volume-opt":
		err = pair(&driver().Options)
	default:
		return errors.New("unknown key: want volume-nocopy, volume-subpath, volume-label, volume-driver or volume-opt")
	}
	return err
}

// setRecursive says how far a bind mount takes what is mounted below it along.
func setRecursive(bind *mount.BindOptions, value string) error {
	switch value {
	case "enabled": // as far as the kernel can
	case "disabled":
		bind.NonRecursive = true
	case "writable":
		bind.ReadOnlyNonRecursive = true
	case "readonly":
		bind.ReadOnlyForceRecursive = true
	default:
		return errors.New("want enabled, disabled, writable or readonly")
	}
	return nil
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
