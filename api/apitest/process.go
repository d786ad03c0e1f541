package apitest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine"
)

type logLine struct {
	stream string
	at     time.Time
	text   []byte
}

// stream is a program's input and output and the connections attached to them.
type stream struct {
	mu       sync.Mutex
	terminal bool
	clients  []net.Conn
	in       io.Reader
	written  func(name string, b []byte)
}

// attach takes a copy of the connection.
func (s *stream) attach(conn *os.File, options engine.AttachOptions) error {
	c, err := net.FileConn(conn)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	if options.Stdin {
		s.in = io.MultiReader(bytes.NewReader(options.Preread), c)
	}
	return nil
}

func (s *stream) write(name string, b []byte) {
	if s.written != nil {
		s.written(name, b)
	}
	if !s.terminal {
		head := make([]byte, 8)
		head[0] = map[string]byte{"stdout": 1, "stderr": 2}[name]
		binary.BigEndian.PutUint32(head[4:], uint32(len(b)))
		b = append(head, b...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		_, _ = c.Write(b)
	}
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		_ = c.Close()
	}
	s.clients = nil
}

// process is one make-believe program.
type process struct {
	signals chan string
	exited  chan int
}

func (p *process) signal(name string) {
	select {
	case p.signals <- name:
	default:
	}
}

// startProcess runs echo, complain, env, cat, exit N, sleep, or hush, which sleeps with
// its output closed; anything else is not found.
func startProcess(argv, env []string, s *stream) (*process, error) {
	p := &process{signals: make(chan string, 8), exited: make(chan int, 1)}
	if len(argv) == 0 {
		return nil, fmt.Errorf("no command specified: %w", errdefs.ErrInvalidArgument)
	}
	var program func() int
	text := []byte(strings.Join(argv[1:], " ") + "\n")
	switch argv[0] {
	case "echo":
		program = func() int { s.write("stdout", text); return 0 }
	case "complain":
		program = func() int { s.write("stderr", text); return 3 }
	case "env":
		program = func() int { s.write("stdout", []byte(strings.Join(env, "\n")+"\n")); return 0 }
	case "exit":
		program = func() int { n, _ := strconv.Atoi(argv[1]); return n }
	case "cat":
		program = func() int { return p.cat(s) }
	case "sleep":
		program = func() int { return p.sleep(s) }
	case "hush":
		program = func() int { s.close(); return p.sleep(s) }
	case "/etc":
		return nil, fmt.Errorf("runc create failed: exec: %q: permission denied", argv[0])
	default:
		return nil, fmt.Errorf("runc create failed: exec: %q: executable file not found in $PATH: %w", argv[0], errdefs.ErrInvalidArgument)
	}
	go func() { p.exited <- program() }()
	return p, nil
}

// cat copies input to output, and ends with it: with a terminal, at ctrl-d, as
// the terminal stays when its client goes.
func (p *process) cat(s *stream) int {
	s.mu.Lock()
	in := s.in
	s.mu.Unlock()
	for buf := make([]byte, 4096); in != nil; {
		n, err := in.Read(buf)
		text, _, ended := bytes.Cut(slices.Clone(buf[:n]), []byte{4})
		if len(text) > 0 {
			s.write("stdout", text)
		}
		switch {
		case s.terminal && ended:
			return 0
		case s.terminal && err != nil:
			return p.sleep(s)
		case err != nil:
			return 0
		}
	}
	return 0
}

// sleep ends with the first signal that kills; others it prints.
func (p *process) sleep(s *stream) int {
	for name := range p.signals {
		switch n := signalNumber(name); n {
		case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT:
			return 128 + int(n)
		default:
			s.write("stdout", fmt.Appendf(nil, "signal %d\n", n))
		}
	}
	return 0
}

func signalNumber(name string) syscall.Signal {
	if n, err := strconv.Atoi(name); err == nil {
		return syscall.Signal(n)
	}
	return map[string]syscall.Signal{
		"": syscall.SIGKILL, "KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP,
	}[strings.TrimPrefix(strings.ToUpper(name), "SIG")]
}

// fakeExec is a further program in a container.
type fakeExec struct {
	container string
	request   container.ExecCreateRequest
	process   *process
	running   bool
	code      *int
}

// ExecCreate keeps the request.
func (e *Engine) ExecCreate(_ context.Context, ref string, request container.ExecCreateRequest) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return "", err
	}
	if !c.State.Running {
		return "", fmt.Errorf("container %s is not running: %w", c.ID, errdefs.ErrConflict)
	}
	id := newID()
	e.execs[id] = &fakeExec{container: c.ID, request: request}
	return id, nil
}

// ExecStart runs the program on the connection, or on none.
func (e *Engine) ExecStart(_ context.Context, id string, options engine.ExecStartOptions, conn *os.File) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.execs[id]
	if x == nil {
		return missing("exec instance", id)
	}
	s := &stream{terminal: options.Tty}
	if conn != nil {
		if err := s.attach(conn, engine.AttachOptions{Stdin: x.request.AttachStdin, Preread: options.Preread}); err != nil {
			return err
		}
	}
	p, err := startProcess(x.request.Cmd, x.request.Env, s)
	if err != nil {
		s.close()
		code := 127
		x.code = &code
		return err
	}
	x.running, x.process = true, p
	go func() {
		code := <-p.exited
		// The streams end first: that is how it is with a real one, too.
		s.close()
		time.Sleep(5 * time.Millisecond)
		e.mu.Lock()
		defer e.mu.Unlock()
		x.running, x.code = false, &code
	}()
	return nil
}

// ExecInspect says how far it is.
func (e *Engine) ExecInspect(_ context.Context, id string) (container.ExecInspectResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.execs[id]
	if x == nil {
		return container.ExecInspectResponse{}, missing("exec instance", id)
	}
	return container.ExecInspectResponse{ID: id, ContainerID: x.container, Running: x.running, ExitCode: x.code}, nil
}

// ExecResize checks the reference alone.
func (e *Engine) ExecResize(_ context.Context, id string, _, _ uint) error {
	_, err := e.ExecInspect(context.Background(), id)
	return err
}

// ExecsRunning is how many execs run.
func (e *Engine) ExecsRunning() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, x := range e.execs {
		if x.running {
			n++
		}
	}
	return n
}

// EndExecs sends a signal to all execs.
func (e *Engine) EndExecs(signal string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.execs {
		if x.running {
			x.process.signal(signal)
		}
	}
}
