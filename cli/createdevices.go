package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// deviceFlags are the flags of run and create for devices of the host.
type deviceFlags struct {
	devices, cgroupRules, gpus             []string
	readBps, writeBps, readIOps, writeIOps []string
	blkioWeightDevices                     []string
}

func (f *deviceFlags) register(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.devices, "device", nil, "device of the host, or directory of such, HOSTPATH[:PATH[:rwm]]")
	fl.StringArrayVar(&f.cgroupRules, "device-cgroup-rule", nil, "devices that may be used, 'c 10:200 rwm'")
	fl.StringArrayVar(&f.gpus, "gpus", nil, "graphics processors, all or N or KEY=VALUE,…")
	fl.StringArrayVar(&f.readBps, "device-read-bps", nil, "most bytes a second read from a device, /dev/NAME:1m")
	fl.StringArrayVar(&f.writeBps, "device-write-bps", nil, "most bytes a second written to a device, /dev/NAME:1m")
	fl.StringArrayVar(&f.readIOps, "device-read-iops", nil, "most reads a second from a device, /dev/NAME:1000")
	fl.StringArrayVar(&f.writeIOps, "device-write-iops", nil, "most writes a second to a device, /dev/NAME:1000")
	fl.StringArrayVar(&f.blkioWeightDevices, "blkio-weight-device", nil, "share of one block device's time, /dev/NAME:500")
}

func (f *deviceFlags) apply(host *container.HostConfig) error {
	for _, text := range f.devices {
		if cdiName.MatchString(text) {
			host.DeviceRequests = append(host.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{text}})
			continue
		}
		device, err := parseDevice(text)
		if err != nil {
			return fmt.Errorf("invalid --device %q: %w", text, err)
		}
		host.Devices = append(host.Devices, device)
	}
	for _, rule := range f.cgroupRules {
		if !cgroupRule.MatchString(rule) {
			return fmt.Errorf("invalid --device-cgroup-rule %q: want 'a|b|c MAJOR:MINOR rwm', * for any number", rule)
		}
	}
	host.DeviceCgroupRules = f.cgroupRules
	for _, text := range f.gpus {
		request, err := parseGPUs(text)
		if err != nil {
			return fmt.Errorf("invalid --gpus %q: %w", text, err)
		}
		host.DeviceRequests = append(host.DeviceRequests, request)
	}
	return f.applyBlkio(host)
}

func (f *deviceFlags) applyBlkio(host *container.HostConfig) error {
	for _, text := range f.blkioWeightDevices {
		path, value, err := devicePath(text)
		n, numberErr := strconv.ParseUint(value, 10, 16)
		if err != nil || numberErr != nil {
			return fmt.Errorf("invalid --blkio-weight-device %q: want /dev/NAME:WEIGHT", text)
		}
		share, err := weight("blkio-weight-device", n)
		if err != nil {
			return err
		}
		host.BlkioWeightDevice = append(host.BlkioWeightDevice, &blkiodev.WeightDevice{Path: path, Weight: share})
	}
	for _, limit := range []struct {
		flag   string
		values []string
		into   *[]*blkiodev.ThrottleDevice
		read   func(string) (int64, error)
	}{
		{"device-read-bps", f.readBps, &host.BlkioDeviceReadBps, units.RAMInBytes},
		{"device-write-bps", f.writeBps, &host.BlkioDeviceWriteBps, units.RAMInBytes},
		{"device-read-iops", f.readIOps, &host.BlkioDeviceReadIOps, decimal},
		{"device-write-iops", f.writeIOps, &host.BlkioDeviceWriteIOps, decimal},
	} {
		for _, text := range limit.values {
			path, value, err := devicePath(text)
			if err != nil {
				return fmt.Errorf("invalid --%s %q: %w", limit.flag, text, err)
			}
			rate, err := limit.read(value)
			if err != nil || rate < 0 {
				return fmt.Errorf("invalid --%s %q: want /dev/NAME:RATE, a whole number", limit.flag, text)
			}
			*limit.into = append(*limit.into, &blkiodev.ThrottleDevice{Path: path, Rate: uint64(rate)})
		}
	}
	return nil
}

func decimal(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) }

var (
	cgroupRule = regexp.MustCompile(`^[abc] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`)
	// cdiName is a device of the Container Device Interface, VENDOR/CLASS=NAME.
	cdiName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*$`)
	access  = regexp.MustCompile(`^[rwm]{1,3}$`)
)

// parseDevice reads HOSTPATH[:PATH[:ACCESS]] and HOSTPATH:ACCESS.
func parseDevice(text string) (container.DeviceMapping, error) {
	parts := strings.Split(text, ":")
	d := container.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	switch {
	case len(parts) > 3 || slices.Contains(parts, ""):
		return d, errors.New("want HOSTPATH[:PATH[:rwm]]")
	case len(parts) == 3:
		d.PathInContainer, d.CgroupPermissions = parts[1], parts[2]
	case len(parts) == 2 && access.MatchString(parts[1]):
		d.CgroupPermissions = parts[1]
	case len(parts) == 2:
		d.PathInContainer = parts[1]
	}
	if !access.MatchString(d.CgroupPermissions) {
		return d, fmt.Errorf("bad access %q: want letters of r, w and m", d.CgroupPermissions)
	}
	return d, nil
}

// parseGPUs reads all, a count, or count=, device=, driver=, capabilities= and
// options= with commas between.
func parseGPUs(text string) (container.DeviceRequest, error) {
	request := container.DeviceRequest{Capabilities: [][]string{{"gpu"}}}
	fields, err := csvFields(text)
	if err != nil {
		return request, err
	}
	for _, field := range fields {
		key, value, found := strings.Cut(field, "=")
		if !found {
			key, value = "count", field
		}
		switch key {
		case "count":
			if value == "all" {
				request.Count = -1
			} else if request.Count, err = strconv.Atoi(value); err != nil {
				return request, errors.New("want all, a number, or KEY=VALUE")
			}
		case "device":
			request.DeviceIDs = strings.Split(value, ",")
		case "driver":
			request.Driver = value
		case "capabilities":
			request.Capabilities[0] = append(strings.Split(value, ","), "gpu")
		case "options":
			if request.Options, err = keyValues("options", strings.Split(value, ","), false); err != nil {
				return request, err
			}
		default:
			return request, fmt.Errorf("unknown key %q: want count, device, driver, capabilities or options", key)
		}
	}
	if request.Count == 0 && request.DeviceIDs == nil {
		request.Count = 1
	}
	return request, nil
}
