package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// volumeFlags are the flags of run and create for the files that a container shares.
type volumeFlags struct {
	volumes, tmpfs, mounts, volumesFrom []string
	volumeDriver                        string
}

func (f *volumeFlags) register(fl *pflag.FlagSet) {
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil,
		"volume, or directory or file of the host, NAME|HOSTPATH:PATH[:ro];\nPATH alone is a volume without a name")
	fl.StringArrayVar(&f.tmpfs, "tmpfs", nil, "empty directory in memory, PATH[:OPTION,…], as /tmp:size=64m")
	fl.StringArrayVar(&f.mounts, "mount", nil,
		"the same in long form: type=volume|bind|tmpfs,source=NAME|HOSTPATH,target=PATH[,readonly]\n[,volume-nocopy][,volume-subpath=…][,volume-opt=KEY=VALUE][,bind-propagation=…]\n[,tmpfs-size=64m][,tmpfs-mode=1777]")
	fl.StringArrayVar(&f.volumesFrom, "volumes-from", nil, "the volumes of another container, NAME[:ro]")
	fl.StringVar(&f.volumeDriver, "volume-driver", "", "driver of the volumes that -v makes (default local)")
}

func (f *volumeFlags) apply(host *container.HostConfig) error {
	for _, volume := range f.volumes {
		if !strings.Contains(volume, ":") {
			continue // without a name: see anonymous
		}
		bind, err := parseVolume(volume)
		if err != nil {
			return err
		}
		host.Binds = append(host.Binds, bind)
	}
	for _, value := range f.tmpfs {
		path, options, _ := strings.Cut(value, ":")
		if host.Tmpfs == nil {
			host.Tmpfs = map[string]string{}
		}
		host.Tmpfs[path] = options
	}
	for _, text := range f.mounts {
		m, err := parseMount(text)
		if err != nil {
			return err
		}
		host.Mounts = append(host.Mounts, m)
	}
	host.VolumesFrom, host.VolumeDriver = slices.Clone(f.volumesFrom), f.volumeDriver
	return nil
}

// anonymous are the volumes without a name: -v PATH.
func (f *volumeFlags) anonymous() (map[string]struct{}, error) {
	var out map[string]struct{}
	for _, path := range f.volumes {
		if strings.Contains(path, ":") {
			continue
		}
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("invalid -v %q: want NAME|HOSTPATH:PATH[:ro], or an absolute path inside the container", path)
		}
		if out == nil {
			out = map[string]struct{}{}
		}
		out[path] = struct{}{}
	}
	return out, nil
}

// parseVolume makes the host's path absolute where it begins with a dot: the
// daemon does not know where we are.
func parseVolume(value string) (string, error) {
	source, target, found := strings.Cut(value, ":")
	if !found || source == "" || target == "" {
		return "", fmt.Errorf("invalid -v %q: want NAME|HOSTPATH:PATH[:ro]", value)
	}
	if source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../") {
		abs, err := filepath.Abs(source)
		if err != nil {
			return "", fmt.Errorf("invalid -v %q: %w", value, err)
		}
		source = abs
	}
	return source + ":" + target, nil
}
