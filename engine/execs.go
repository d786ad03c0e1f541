package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// What is remembered of execs that have ended: as long as in Docker, for those who
// ask for the exit code, and no more of them than memory has room for.
const (
	execsKeptTime = 5 * time.Minute
	execsKept     = 4096
)

// execution is a further command in a container. It is remembered for a time, or
// until its container goes.
type execution struct {
	id, container string
	req           container.ExecCreateRequest
	// ended is closed at its end.
	ended   chan struct{}
	reading reading

	mu      sync.Mutex
	started bool
	over    bool
	code    int
	pid     int
	tidying bool // it is over, and its streams are not closed yet
}

func (x *execution) isTidying() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.tidying
}

// tidied says that nothing is left of it.
func (x *execution) tidied() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tidying = false
}

// isFresh says that it was never started.
func (x *execution) isFresh() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.started
}

// begin claims the one start that an exec has.
func (x *execution) begin() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.started {
		return fmt.Errorf("exec %s has already been started: %w", x.id, errdefs.ErrConflict)
	}
	x.started = true
	return nil
}

func (x *execution) setPID(pid int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pid = pid
}

func (x *execution) end(code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		x.over, x.code, x.tidying = true, code, true
		x.req.Env = nil // it may be long, and nobody asks for it any more
		close(x.ended)
	}
}

func (x *execution) isRunning() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.started && !x.over && x.pid != 0
}

// isUnfinished says that it was started and its end is not known: it runs, or it
// has ended so quickly that not even its start has been answered.
func (x *execution) isUnfinished() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.started && !x.over
}

func (x *execution) inspect() container.ExecInspectResponse {
	x.mu.Lock()
	defer x.mu.Unlock()
	privileged := x.req.Privileged
	out := container.ExecInspectResponse{
		ID: x.id, ContainerID: x.container, Running: x.started && !x.over, Pid: x.pid, CanRemove: x.over,
		OpenStdin: x.req.AttachStdin, OpenStdout: x.req.AttachStdout, OpenStderr: x.req.AttachStderr,
		ProcessConfig: &container.ExecProcessConfig{
			Tty: x.req.Tty, Entrypoint: x.req.Cmd[0], Arguments: x.req.Cmd[1:], Privileged: &privileged, User: x.req.User,
		},
	}
	if x.over {
		code := x.code
		out.ExitCode = &code
	}
	return out
}

// savedExec is what outlives the daemon of an exec that runs, in its FIFOs'
// directory.
type savedExec struct {
	Container string                      `json:"container"`
	Request   container.ExecCreateRequest `json:"request"`
}

func (x *execution) path(e *Engine) string {
	return filepath.Join(e.fifoDir(x.id), "exec.json")
}

func (x *execution) save(e *Engine) error {
	raw, err := json.Marshal(savedExec{x.container, x.req})
	if err != nil {
		return err
	}
	return os.WriteFile(x.path(e), raw, 0o600)
}

func (x *execution) unsave(e *Engine) error {
	if err := os.Remove(x.path(e)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// restoreExecs takes up the execs that a former daemon started and whose
// container still runs; the others are strays.
func (e *Engine) restoreExecs(ctx context.Context) {
	ids, err := names(e.fifosDir())
	if err != nil {
		e.log.Error("execs were not restored", "operation", "restore", "err", err)
		return
	}
	for _, id := range ids {
		x := &execution{id: id, started: true, ended: make(chan struct{})}
		raw, err := os.ReadFile(x.path(e))
		var saved savedExec
		if err != nil || json.Unmarshal(raw, &saved) != nil || len(saved.Request.Cmd) == 0 {
			continue // a container's, or one that was just being made
		}
		x.container, x.req = saved.Container, saved.Request
		c, ok := e.registry.get(x.container)
		if !ok || c.running() == nil {
			continue
		}
		pid, err := e.rt.ExecPID(ctx, x.container, x.id)
		if err != nil {
			continue // it was never made
		}
		x.pid = pid
		e.execs.add(x)
		s := e.execStreams(x)
		s.Started = true
		if err := e.openStreams(ctx, &x.reading, s); err != nil {
			e.log.Error("open the streams of an exec again", "operation", "restore", "exec", short(id), "err", err)
		}
		e.followExec(x)
		e.passStdinEnd(s, x.container, x.id)
	}
}

// execs knows all execs by ID.
type execs struct {
	mu   sync.Mutex
	byID map[string]*execution
	// over are those that have ended, the oldest first.
	over []retired
}

type retired struct {
	id string
	at time.Time
}

func (s *execs) init() { s.byID = make(map[string]*execution) }

func (s *execs) add(x *execution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[x.id] = x
	for len(s.over) > 0 && (len(s.over) > execsKept || time.Since(s.over[0].at) > execsKeptTime) {
		delete(s.byID, s.over[0].id)
		s.over[0] = retired{}
		s.over = s.over[1:]
	}
}

// retire notes that it has ended: it is forgotten some time after.
func (s *execs) retire(x *execution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = append(s.over, retired{x.id, time.Now()})
}

// note puts every ID into the set.
func (s *execs) note(set map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.byID {
		set[id] = true
	}
}

func (s *execs) find(id string) (*execution, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x, ok := s.byID[id]; ok {
		return x, nil
	}
	return nil, fmt.Errorf("No such exec instance: %s: %w", id, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
}

func (s *execs) of(container string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, x := range s.byID {
		if x.container == container && x.isRunning() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (s *execs) unfinished() []*execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(s.byID)), func(x *execution) bool { return !x.isUnfinished() })
}

// dropAll forgets the container's execs. One that has not been tidied up after
// is forgotten when it is.
func (s *execs) dropAll(container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.byID, func(_ string, x *execution) bool { return x.container == container && !x.isRunning() && !x.isTidying() })
}

func (s *execs) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
}
