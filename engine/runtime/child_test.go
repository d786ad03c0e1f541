package runtime

import (
	"os/exec"
	"testing"
)

// The end of a process is seen, whoever waits for it, and so is that nobody asks any more.
func TestEnded(t *testing.T) {
	t.Parallel()
	sleep := exec.CommandContext(t.Context(), "sleep", "3600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Wait() }()
	stop := make(chan struct{})
	stopped, gone := make(chan bool, 1), make(chan bool, 1)
	go func() { stopped <- ended(sleep.Process.Pid, stop) }()
	go func() { gone <- ended(sleep.Process.Pid, nil) }()
	close(stop)
	if <-stopped {
		t.Error("a process that runs is said to have ended")
	}
	select {
	case <-gone:
		t.Fatal("nobody stopped the other, and the process runs")
	default:
	}
	if err := sleep.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !<-gone {
		t.Error("the end of a process was not seen")
	}
	if err := sleep.Wait(); err == nil {
		t.Error("sleep was killed and says that it was not")
	}
	if !ended(sleep.Process.Pid, stop) {
		t.Error("a process that is not there is said to run")
	}
}
