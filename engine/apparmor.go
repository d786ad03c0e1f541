package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/contrib/apparmor"
	hostapparmor "github.com/containerd/containerd/v2/pkg/apparmor"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/oci"
)

// appArmorDefault is the profile of containers that name none, where the host has
// AppArmor.
const appArmorDefault = "fairlead-default"

// appArmorProfiles is where the kernel lists what is loaded, see securityfs.
const appArmorProfiles = "/sys/kernel/security/apparmor/profiles"

// loadAppArmor loads the default profile, once; "" is a host without AppArmor.
func (e *Engine) loadAppArmor() string {
	e.appArmor.Do(func() {
		if !hostapparmor.HostSupports() {
			return
		}
		if err := apparmor.LoadDefaultProfile(appArmorDefault); err != nil {
			e.log.Error("AppArmor's default profile cannot be loaded; containers run without one", "operation", "start", "err", err)
			return
		}
		e.appArmorProfile = appArmorDefault
	})
	return e.appArmorProfile
}

// checkAppArmor refuses a profile that is not loaded.
func checkAppArmor(h *container.HostConfig) error {
	name := oci.AppArmorProfile(h)
	if name == "" {
		return nil
	}
	f, err := os.Open(appArmorProfiles)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--security-opt apparmor=%s (HostConfig.SecurityOpt) is not possible: this host runs without AppArmor; leave it out, or say apparmor=unconfined: %w", name, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return fmt.Errorf("list the profiles of AppArmor: %w", err)
	}
	defer f.Close()
	loaded, err := listed(f, name)
	if err != nil {
		return fmt.Errorf("list the profiles of AppArmor: %w", err)
	}
	if !loaded {
		return fmt.Errorf("--security-opt apparmor=%s (HostConfig.SecurityOpt): no such profile is loaded; apparmor_parser(8) loads one: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// listed looks for a profile in lines such as "docker-default (enforce)".
func listed(r io.Reader, name string) (bool, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if have, _, _ := strings.Cut(lines.Text(), " ("); have == name {
			return true, nil
		}
	}
	return false, lines.Err()
}
