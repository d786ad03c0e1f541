package lab

import (
	"os"
	"path/filepath"
	"regexp"
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
	controllers, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, id := range d.containers {
		for _, controller := range append(controllers, "/sys/fs/cgroup") {
			dir := filepath.Join(controller, "fairlead", id)
			if _, err := os.Lstat(dir); err == nil {
				left = append(left, "control group: "+dir)
			}
		}
	}
	return left
}

// unsound fails the test if the daemon or a helper says that it is broken: by a panic,
// or a data race where the program was built to look for them.
func (d *Daemon) unsound() {
	d.lab.t.Helper()
	logs, _ := filepath.Glob(filepath.Join(d.ExecRoot, "*.log"))
	for _, path := range append(logs, d.LogFile) {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // none was started
		}
		if at := broken.FindIndex(text); at != nil {
			d.lab.t.Errorf("%s says:\n%s", filepath.Base(path), text[at[0]:min(len(text), at[0]+4000)])
		}
	}
}

// broken is how the Go runtime begins to tell of what no program may do.
var broken = regexp.MustCompile(`(?m)^(WARNING: DATA RACE|panic: |fatal error: )`)

// end is the daemon's part in the lab's end.
func (d *Daemon) end() {
	d.lab.t.Helper()
	d.unsound() // of the helpers, whose logs go with them
	d.Teardown()
	d.unsound()
	if d.lab.t.Failed() {
		d.lab.t.Logf("log of daemon %s:\n%s", d.Name, d.LogTail(80))
	}
}
