package oci_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/fairlead/fairlead/engine/oci"
)

// TestLengths: what runc would quote without end is refused, and what a program can
// have is not.
func TestLengths(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("x", n) }
	spec := func(change func(*oci.Container)) error {
		c := oci.Container{Config: &container.Config{}, HostConfig: &container.HostConfig{}, Args: []string{"sh"}}
		change(&c)
		_, err := oci.Spec(c)
		return err
	}
	for name, change := range map[string]func(*oci.Container){
		"the name of the program": func(c *oci.Container) { c.Args = []string{long(4096)} },
		"argument 1":              func(c *oci.Container) { c.Args = []string{"sh", long(128 << 10)} },
		"environment variable A=": func(c *oci.Container) { c.Config.Env = []string{"A=" + long(128<<10)} },
		"invalid environment":     func(c *oci.Container) { c.Config.Env = []string{"=" + long(70000)} },
		"the working directory":   func(c *oci.Container) { c.Config.WorkingDir = "/" + long(4096) },
		"the destination of":      func(c *oci.Container) { c.Mounts = []specs.Mount{{Destination: "/" + long(4096)}} },
		"the options of":          func(c *oci.Container) { c.Mounts = []specs.Mount{{Destination: "/a", Options: []string{long(4096)}}} },
		"the path of the control": func(c *oci.Container) { c.HostConfig.CgroupParent = "/" + long(4096) },
	} {
		err := spec(change)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), name) || len(err.Error()) > 300 {
			t.Errorf("%s: %.400v", name, err)
		}
	}
	if err := spec(func(c *oci.Container) {
		c.Args = []string{long(4095), long(128<<10 - 1)}
		c.Config.Env = []string{"A=" + long(128<<10-3)}
	}); err != nil {
		t.Errorf("what Linux takes: %.200v", err)
	}
}
