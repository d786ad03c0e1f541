package lab

import (
	"path/filepath"
)

// Teardown has the daemon take everything of its own away, and waits until it has
// ended. One that does not run is started for it.
func (d *Daemon) Teardown() {
	d.lab.t.Helper()
	if !d.started {
		return
	}
	if !d.Running() {
		if err := d.TryStart(); err != nil {
			d.lab.t.Errorf("daemon %s, to be torn down: %v\n%s", d.Name, err, d.LogTail(40))
			return
		}
	}
	d.noteContainers()
	if _, stderr, code := d.CLI("system", "teardown"); code != 0 {
		d.lab.t.Errorf("daemon %s: teardown: exit status %d: %s\n%s", d.Name, code, stderr, d.LogTail(40))
		_ = d.cmd.Process.Kill()
	}
	d.Wait()
	d.started = false
}

// TeardownAlone has the command line take away what the daemon left, which does not
// run.
func (d *Daemon) TeardownAlone() {
	d.lab.t.Helper()
	if d.Running() {
		d.lab.t.Fatalf("daemon %s runs", d.Name)
	}
	d.noteContainers()
	if _, stderr, code := d.CLI("system", "teardown", "--data-root", d.DataRoot, "--exec-root", d.ExecRoot); code != 0 {
		d.lab.t.Errorf("daemon %s: teardown without it: exit status %d: %s\n%s", d.Name, code, stderr, d.LogTail(40))
		return
	}
	d.started = false
}

// noteContainers remembers the containers there are.
func (d *Daemon) noteContainers() {
	pins, _ := filepath.Glob(filepath.Join(d.ExecRoot, "netns", "*"))
	for _, pin := range pins {
		d.containers = append(d.containers, filepath.Base(pin))
	}
}

// groups are the control groups of the containers it had.
func (d *Daemon) groups() (left []string) {
	for _, id := range d.containers {
		for _, pattern := range []string{"/sys/fs/cgroup/fairlead/" + id, "/sys/fs/cgroup/*/fairlead/" + id} {
			dirs, _ := filepath.Glob(pattern)
			for _, dir := range dirs {
				left = append(left, "control group: "+dir)
			}
		}
	}
	return left
}

// end is the daemon's part in the lab's end.
func (d *Daemon) end() {
	d.lab.t.Helper()
	d.Teardown()
	if d.lab.t.Failed() {
		d.lab.t.Logf("log of daemon %s:\n%s", d.Name, d.LogTail(80))
	}
}
