package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func ruleText(r specs.LinuxDeviceCgroup) string {
	number := func(n *int64) string {
		if n == nil {
			return "*"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("%s %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)
}

func TestFindDevices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]uint32{"one": unix.S_IFCHR | 0o640, "deep/two": unix.S_IFBLK | 0o600} {
		path := filepath.Join(dir, "d", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(path, mode, int(unix.Mkdev(7, 8))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "d", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("d/one", filepath.Join(dir, "by-name")); err != nil {
		t.Fatal(err)
	}
	find := func(r container.Resources) (string, error) {
		out, err := FindDevices(&container.HostConfig{Resources: r})
		var words []string
		for _, n := range out.Nodes {
			words = append(words, fmt.Sprintf("%s=%s%d:%d/%o", n.Path, n.Type, n.Major, n.Minor, *n.FileMode))
		}
		for _, r := range out.Rules {
			words = append(words, "["+ruleText(r)+"]")
		}
		return strings.Join(words, " "), err
	}
	device := func(host, inside, access string) container.Resources {
		return container.Resources{Devices: []container.DeviceMapping{{PathOnHost: host, PathInContainer: inside, CgroupPermissions: access}}}
	}
	for want, r := range map[string]container.Resources{
		"":                               {},
		"/dev/null=c1:3/666 [c 1:3 rwm]": device("/dev/null", "", ""),
		"/dev/x=c1:3/666 [c 1:3 r]":      device("/dev/null", "/dev/./x", "r"),
		"/dev/x=c7:8/640 [c 7:8 rw]":     device(dir+"/by-name", "/dev/x", "rw"),
		"/in/deep/two=b7:8/600 /in/one=c7:8/640 [b 7:8 rwm] [c 7:8 rwm]": device(dir+"/d", "/in", "rwm"),
		"[c 10:200 rwm] [a *:* m]":                                       {DeviceCgroupRules: []string{"c 10:200 rwm", "a *:* m"}},
	} {
		if got, err := find(r); err != nil || got != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
	for _, r := range []container.Resources{device("/dev/nosuch", "", ""), device(dir+"/d/file", "", "")} {
		if _, err := find(r); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "error gathering device information while adding custom device") {
			t.Error(err)
		}
	}
}

func TestDeviceRules(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"c 10:200 rwm", "b 8:* r", "a *:* rwm"} {
		if r, err := parseRule(good); err != nil || ruleText(r) != good || !r.Allow {
			t.Errorf("%s: %s %v", good, ruleText(r), err)
		}
	}
	for _, bad := range []string{"", "c", "c 1:3", "x 1:3 r", "c 1:3 rwmr", "c 1 r", "c 99999999999999999999:1 r", " c 1:3 r"} {
		if _, err := parseRule(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPrivilegedDevices(t *testing.T) {
	t.Parallel()
	out, err := FindDevices(&container.HostConfig{Privileged: true, Resources: container.Resources{
		Devices: []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/zero"}, {PathOnHost: "/dev/null", PathInContainer: "/dev/mine"}},
	}})
	if err != nil || len(out.Rules) > 0 {
		t.Fatal(out.Rules, err)
	}
	count := map[string]int64{}
	for _, n := range out.Nodes {
		if _, twice := count[n.Path]; twice {
			t.Errorf("%s is there twice", n.Path)
		}
		count[n.Path] = n.Minor
	}
	if count["/dev/zero"] != 3 || count["/dev/mine"] != 3 || count["/dev/full"] != 7 {
		t.Error(count)
	}
}

func TestBlockDevices(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	if err := unix.Mknod(disk, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 8))); err != nil {
		t.Fatal(err)
	}
	throttle := func(rate uint64) []*blkiodev.ThrottleDevice {
		return []*blkiodev.ThrottleDevice{{Path: disk, Rate: rate}}
	}
	out, err := blockDevices(&container.HostConfig{Resources: container.Resources{
		BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: disk, Weight: 400}},
		BlkioDeviceReadBps: throttle(1), BlkioDeviceWriteBps: throttle(2), BlkioDeviceReadIOps: throttle(3), BlkioDeviceWriteIOps: throttle(4),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if *out.WeightDevice[0].Weight != 400 || out.WeightDevice[0].Major != 7 || out.ThrottleReadBpsDevice[0].Rate != 1 ||
		out.ThrottleWriteBpsDevice[0].Rate != 2 || out.ThrottleReadIOPSDevice[0].Rate != 3 || out.ThrottleWriteIOPSDevice[0].Rate != 4 || out.ThrottleWriteIOPSDevice[0].Minor != 8 {
		t.Errorf("%+v", out)
	}
	c := example()
	c.Devices.BlockIO, c.HostConfig.BlkioWeight = out, 300
	if s, err := Spec(c); err != nil || *s.Linux.Resources.BlockIO.Weight != 300 || len(s.Linux.Resources.BlockIO.WeightDevice) != 1 || out.Weight != nil {
		t.Errorf("%+v %v", s, err)
	}
	c.Devices.BlockIO = nil
	if s, err := Spec(c); err != nil || *s.Linux.Resources.BlockIO.Weight != 300 {
		t.Errorf("the weight alone: %+v %v", s, err)
	}
	for _, path := range []string{"/dev/null", "/dev/nosuch"} {
		_, err := blockDevices(&container.HostConfig{Resources: container.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: path}}}})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), path) {
			t.Error(err)
		}
	}
	if out, err := blockDevices(&container.HostConfig{}); out != nil || err != nil {
		t.Error(out, err)
	}
}
