package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// flagOf is the flag whose name is not the key of the file.
var flagOf = map[string]string{
	"authorization-plugins":       "authorization-plugin",
	"cdi-spec-dirs":               "cdi-spec-dir",
	"containerd-plugin-namespace": "containerd-plugins-namespace",
	"default-address-pools":       "default-address-pool",
	"default-network-opts":        "default-network-opt",
	"default-ulimits":             "default-ulimit",
	"dns-opts":                    "dns-opt",
	"exec-opts":                   "exec-opt",
	"features":                    "feature",
	"host-gateway-ips":            "host-gateway-ip",
	"hosts":                       "host",
	"insecure-registries":         "insecure-registry",
	"labels":                      "label",
	"log-opts":                    "log-opt",
	"node-generic-resources":      "node-generic-resource",
	"registry-mirrors":            "registry-mirror",
	"runtimes":                    "add-runtime",
	"storage-opts":                "storage-opt",
}

// shown is a value for people, without a proxy's password.
func shown(v reflect.Value) string { return masked(fmt.Sprint(v.Interface())) }

// settable collects the fields that the file may set, by key, those of embedded
// structures too.
func settable(v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch key := f.Tag.Get("json"); {
		case f.Anonymous:
			settable(v.Field(i), into)
		case key != "":
			into[key] = v.Field(i)
		}
	}
}

// flatten has the keys of the object that groups some beside the others.
func flatten(keys map[string]json.RawMessage) {
	const group = "proxies"
	var grouped map[string]json.RawMessage
	if json.Unmarshal(keys[group], &grouped) != nil {
		return // refused as a key that is not known
	}
	delete(keys, group)
	maps.Copy(keys, grouped)
}

// readRegular refuses what may have no end, or wait for another process.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() && path != os.DevNull {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// mergeFile reads the configuration file into c. A key that is unknown, and a key
// whose value is not that of a flag also given, are refused by name. The default
// file may be absent; one that was named may not.
func (c *Config) mergeFile(path string, named bool, flags *pflag.FlagSet) error {
	clash, err := c.merge(path, named, flags)
	if err != nil || len(clash) == 0 {
		return err
	}
	return fmt.Errorf("configuration file %s: the following directives are specified both as a flag and in the configuration file: %s", path, strings.Join(clash, ", "))
}

// merge is mergeFile that leaves keys with a flag of another value to the flag, and
// returns them.
func (c *Config) merge(path string, named bool, flags *pflag.FlagSet) (clash []string, err error) {
	raw, err := readRegular(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration file: %w", err)
	}
	return c.mergeJSON(path, raw, flags)
}

// mergeJSON is merge of what the file at the path has in it.
func (c *Config) mergeJSON(path string, raw []byte, flags *pflag.FlagSet) (clash []string, err error) {
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, fmt.Errorf("configuration file %s is not a JSON object: %w", path, err)
	}
	if key, twice := repeatedKey(raw); twice {
		return nil, fmt.Errorf("configuration file %s has the key %q twice", path, key)
	}
	flatten(keys)
	fields := make(map[string]reflect.Value)
	settable(reflect.ValueOf(c).Elem(), fields)
	var unknown []string
	for key, val := range keys {
		field, ok := fields[key]
		if !ok {
			unknown = append(unknown, key)
			continue
		}
		fresh := reflect.New(field.Type())
		if err := json.Unmarshal(val, fresh.Interface()); err != nil {
			return nil, fmt.Errorf("configuration file %s: key %q: %w", path, key, err)
		}
		if c.front.unset(fresh.Elem()) {
			continue
		}
		flag := key
		if f, other := flagOf[key]; other {
			flag = f
		}
		if flags.Changed(flag) && !reflect.DeepEqual(field.Interface(), fresh.Elem().Interface()) {
			clash = append(clash, fmt.Sprintf("%s: (from flag: %s, from file: %s)", key, shown(field), shown(fresh.Elem())))
			continue
		}
		field.Set(fresh.Elem())
	}
	slices.Sort(unknown)
	slices.Sort(clash)
	if len(unknown) > 0 {
		return nil, fmt.Errorf("configuration file %s: the following directives don't match any configuration option: %s", path, strings.Join(unknown, ", "))
	}
	return clash, nil
}

// settingsFile is where a daemon notes the settings it runs with, in EXEC_ROOT: who
// takes away later what it made, without it, has to know the bridge, the table and
// the containerd. It is a configuration file like any other.
const settingsFile = "daemon.json"

func (c *Config) save() error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("note the settings: %w", err)
	}
	path := filepath.Join(c.ExecRoot, settingsFile)
	for _, path := range []string{path, path + ".copy"} {
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, raw) {
			continue
		}
		if err := os.WriteFile(path+".tmp", raw, 0o600); err != nil {
			return fmt.Errorf("note the settings: %w", err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return fmt.Errorf("note the settings: %w", err)
		}
	}
	return nil
}

// savedSettings returns the path of what save wrote, or of its copy where that is
// damaged or gone; "" if there is none. Where both are damaged it is that of the first.
func savedSettings(execRoot string) string {
	path := filepath.Join(execRoot, settingsFile)
	for _, path := range []string{path, path + ".copy"} {
		if checkSaved(path) == nil {
			return path
		}
	}
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// checkSaved says why the file is not as save wrote it.
func checkSaved(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var roots struct {
		ExecRoot string `json:"exec-root"`
	}
	if err := json.Unmarshal(raw, &roots); err != nil || roots.ExecRoot == "" {
		return fmt.Errorf("%s, where the daemon noted the settings it ran with, is damaged, and so is its copy: "+
			"give the flags that it was started with, and --config-file", path)
	}
	return nil
}
