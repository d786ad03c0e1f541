package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// changePoints are passed by what changes a container that is there, and by volumes.
var changePoints = []string{
	"engine-rename-stored", "engine-exec-saved", "engine-exec-made", "engine-exec-started", "volume-made", "volume-named", "volume-discarded",
}

// TestCrashChanges: the daemon is killed at the points of a rename, an exec and the making
// and removing of a volume. After a restart each has happened as a whole, or not at all,
// and works the next time.
func TestCrashChanges(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	c.arm("")
	c.up("at first")
	c.Must("rename", "victim", "renamed")
	c.Must("rename", "renamed", "victim")
	c.Must("exec", "victim", "true")
	c.Must("volume", "create", "vol")
	c.Must("volume", "rm", "vol")
	for _, p := range changePoints {
		if !slices.Contains(c.passed(), p) {
			t.Errorf("the point %s is passed no more", p)
		}
	}
	whole := c.present()
	settled := func(point string) {
		t.Helper()
		c.died(point)
		c.recovered(point)
		if now := c.present(); now != whole {
			t.Fatalf("%s: the host is not as it was:\n%s", point, changes(whole, now))
		}
		c.fetches(c.outside, at(host4, victimPort))
	}

	c.arm("engine-rename-stored")
	_, _, _ = c.CLI("rename", "victim", "renamed")
	settled("engine-rename-stored")
	if names := c.Must("ps", "--format", "{{.Names}}"); !strings.Contains(names, "renamed") || strings.Contains(names, "victim") {
		t.Errorf("after a crash in a rename: %s", names)
	}
	// Its neighbours know it by the new name, and not by the old one.
	for name, known := range map[string]bool{"renamed": true, "victim": false} {
		_, _, code := c.CLI("run", "--rm", "--network", "dual", "demo", "nslookup", name)
		if (code == 0) != known {
			t.Errorf("the name %s is known: %v", name, code == 0)
		}
	}
	c.Must("rename", "renamed", "victim")

	for _, step := range []string{"engine-exec-saved", "engine-exec-made", "engine-exec-started"} {
		c.arm(step)
		// Who waits for the command waits for the next daemon, too.
		ctx, leave := context.WithCancel(t.Context())
		cmd := c.Command(ctx, "exec", "victim", "sleep", "3600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		settled(step)
		leave()
		if err := cmd.Wait(); err == nil {
			t.Errorf("%s: it succeeded", step)
		}
		if out := c.Must("exec", "victim", "echo", "here"); out != "here" {
			t.Errorf("%s: exec: %q", step, out)
		}
		// One that had begun goes on, and no other does.
		top := c.Must("top", "victim")
		if ran := strings.Contains(top, "sleep"); ran != (step == "engine-exec-started") {
			t.Errorf("%s: the command runs: %v\n%s", step, ran, top)
		}
	}

	exists := func() bool { return strings.Contains(c.Must("volume", "ls"), "vol") }
	for _, step := range []string{"volume-made", "volume-named"} {
		c.arm(step)
		_, _, _ = c.CLI("volume", "create", "vol")
		settled(step)
		if made := step == "volume-named"; exists() != made {
			t.Errorf("%s: the volume is there: %v", step, exists())
		}
		c.Must("volume", "create", "vol")
		c.Must("run", "--rm", "-v", "vol:/data", "demo", "touch", "/data/file")
		c.Must("volume", "rm", "vol")
	}
	c.Must("volume", "create", "vol")
	c.arm("volume-discarded")
	_, _, _ = c.CLI("volume", "rm", "vol")
	settled("volume-discarded")
	if exists() {
		t.Error("volume-discarded: the volume is there")
	}
	c.down("the end")
}
