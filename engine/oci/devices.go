package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Devices are what a container is given of the machine's, as they are at a start.
type Devices struct {
	Nodes []specs.LinuxDevice
	Rules []specs.LinuxDeviceCgroup
	// BlockIO are the limits of single block devices.
	BlockIO *specs.LinuxBlockIO
}

// wildcard stands for every number in a rule.
const wildcard = "*"

// FindDevices looks up the devices of --device, their rules, and those whose input and
// output is limited; for a privileged container all of the machine's. A device that is
// not there is errdefs.ErrInvalidArgument.
func FindDevices(h *container.HostConfig) (Devices, error) {
	var out Devices
	if h.Privileged {
		all, err := under("/dev", "/dev")
		if err != nil {
			return out, fmt.Errorf("list the devices for a privileged container: %w", err)
		}
		out.Nodes = all
	}
	for _, d := range h.Devices {
		nodes, err := find(d)
		if err != nil {
			return out, fmt.Errorf("error gathering device information while adding custom device %q: %w: %w", d.PathOnHost, err, errdefs.ErrInvalidArgument)
		}
		for _, n := range nodes {
			out.Nodes = append(slices.DeleteFunc(out.Nodes, func(other specs.LinuxDevice) bool { return other.Path == n.Path }), n)
			major, minor := n.Major, n.Minor
			out.Rules = append(out.Rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &major, Minor: &minor, Access: access(d)})
		}
	}
	for _, text := range h.DeviceCgroupRules {
		rule, err := parseRule(text)
		if err != nil {
			return out, err
		}
		out.Rules = append(out.Rules, rule)
	}
	if h.Privileged {
		out.Rules = nil // everything is allowed
	}
	var err error
	out.BlockIO, err = blockDevices(h)
	return out, err
}

// access is rwm unless the mapping says less.
func access(d container.DeviceMapping) string {
	if d.CgroupPermissions == "" {
		return "rwm"
	}
	return d.CgroupPermissions
}

// checkDevices says what of the devices' words cannot be, without looking for them.
func checkDevices(h *container.HostConfig) error {
	for _, d := range h.Devices {
		inside := d.PathInContainer
		if inside == "" {
			inside = d.PathOnHost
		}
		if !path.IsAbs(d.PathOnHost) || !path.IsAbs(inside) {
			return fmt.Errorf("invalid device %s:%s: both paths must be absolute: %w", d.PathOnHost, inside, errdefs.ErrInvalidArgument)
		}
		a := access(d)
		if len(a) > 3 || strings.Trim(a, "rwm") != "" || strings.Count(a, "r") > 1 || strings.Count(a, "w") > 1 || strings.Count(a, "m") > 1 {
			return fmt.Errorf("invalid mode for device %s: %q: want each of r, w and m once at most: %w", d.PathOnHost, a, errdefs.ErrInvalidArgument)
		}
	}
	for _, text := range h.DeviceCgroupRules {
		if _, err := parseRule(text); err != nil {
			return err
		}
	}
	return nil
}

// find is the device at the path on the host, or all below it for a directory.
func find(d container.DeviceMapping) ([]specs.LinuxDevice, error) {
	inside := d.PathInContainer
	if inside == "" {
		inside = d.PathOnHost
	}
	// A link may have been given a name that stays while the device's own changes.
	real, err := filepath.EvalSymlinks(d.PathOnHost)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return under(real, inside)
	}
	n, ok := node(info, path.Clean(inside))
	if !ok {
		return nil, errors.New("not a device node")
	}
	return []specs.LinuxDevice{n}, nil
}

// under is every device in the directory, as if it were at inside.
func under(dir, inside string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone since it was listed
			}
			return err
		}
		switch at {
		case "/dev/pts", "/dev/shm", "/dev/mqueue":
			if d.IsDir() && at != dir { // for a link it would skip the whole of /dev
				return fs.SkipDir
			}
		case "/dev/console", "/dev/ptmx": // the container has its own
			return nil
		}
		if d.Type()&fs.ModeDevice == 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // gone since it was listed
		}
		if n, ok := node(info, path.Join(inside, strings.TrimPrefix(at, dir))); ok {
			out = append(out, n)
		}
		return nil
	})
	return out, err
}

func node(info fs.FileInfo, inside string) (specs.LinuxDevice, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&fs.ModeDevice == 0 || st.Rdev == 0 {
		return specs.LinuxDevice{}, false
	}
	kind := "b"
	if info.Mode()&fs.ModeCharDevice != 0 {
		kind = "c"
	}
	mode := os.FileMode(st.Mode & 0o7777)
	return specs.LinuxDevice{
		Path: inside, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, true
}

var ruleForm = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// parseRule reads a --device-cgroup-rule, as "c 10:200 rwm"; see
// Documentation/admin-guide/cgroup-v1/devices.rst.
func parseRule(text string) (specs.LinuxDeviceCgroup, error) {
	parts := ruleForm.FindStringSubmatch(text)
	if parts == nil {
		return specs.LinuxDeviceCgroup{}, fmt.Errorf("invalid device cgroup rule format: '%s': want TYPE MAJOR:MINOR ACCESS, as in 'c 10:200 rwm': %w", text, errdefs.ErrInvalidArgument)
	}
	out := specs.LinuxDeviceCgroup{Allow: true, Type: parts[1], Access: parts[4]}
	for i, to := range []**int64{&out.Major, &out.Minor} {
		if parts[2+i] == wildcard {
			continue
		}
		n, err := strconv.ParseInt(parts[2+i], 10, 32)
		if err != nil {
			return out, fmt.Errorf("invalid device cgroup rule format: '%s': %w: %w", text, err, errdefs.ErrInvalidArgument)
		}
		*to = &n
	}
	return out, nil
}

// blockDevices are the limits of single devices by their numbers.
func blockDevices(h *container.HostConfig) (*specs.LinuxBlockIO, error) {
	var out specs.LinuxBlockIO
	for _, w := range h.BlkioWeightDevice {
		major, minor, err := numbers(w.Path)
		if err != nil {
			return nil, err
		}
		weight := w.Weight
		d := specs.LinuxWeightDevice{Weight: &weight}
		d.Major, d.Minor = major, minor
		out.WeightDevice = append(out.WeightDevice, d)
	}
	for _, x := range []struct {
		list []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{h.BlkioDeviceReadBps, &out.ThrottleReadBpsDevice},
		{h.BlkioDeviceWriteBps, &out.ThrottleWriteBpsDevice},
		{h.BlkioDeviceReadIOps, &out.ThrottleReadIOPSDevice},
		{h.BlkioDeviceWriteIOps, &out.ThrottleWriteIOPSDevice},
	} {
		for _, t := range x.list {
			major, minor, err := numbers(t.Path)
			if err != nil {
				return nil, err
			}
			d := specs.LinuxThrottleDevice{Rate: t.Rate}
			d.Major, d.Minor = major, minor
			*x.to = append(*x.to, d)
		}
	}
	if len(out.WeightDevice)+len(out.ThrottleReadBpsDevice)+len(out.ThrottleWriteBpsDevice)+len(out.ThrottleReadIOPSDevice)+len(out.ThrottleWriteIOPSDevice) == 0 {
		return nil, nil //nolint:nilnil // no limit
	}
	return &out, nil
}

// numbers are those of the block device at the path.
func numbers(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("limit of the block device %s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("limit of %s: it is no block device: %w", path, errdefs.ErrInvalidArgument)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}
