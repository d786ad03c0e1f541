package streams

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/spawn"
)

// What is handed over: every stream with its FIFOs, the line its log waits for
// the end of, and its clients with all that is on its way to and from them. Not
// a byte is lost or written twice: everything stands still while it is copied.
// Clients of streams that are closed already stay, to be sent what is left.
//
// The descriptors, in order, for every stream: its outputs, stdin if it is open,
// its clients, each with its spool if it has one.

// state is what goes to a successor.
type state struct {
	Streams []streamState `json:"streams"`
}

type streamState struct {
	Spec   Spec `json:"spec"`
	Opened bool `json:"opened"`
	// Outputs are the names of those that have not ended.
	Outputs []string `json:"outputs,omitempty"`
	// StdinOpen says that stdin has a descriptor.
	StdinOpen   bool `json:"stdin_open,omitempty"`
	StdinClosed bool `json:"stdin_closed,omitempty"`
	// Pending is the log's, see jsonlog.Writer.
	Pending map[string][]byte `json:"pending,omitempty"`
	Clients []clientState     `json:"clients,omitempty"`
}

type clientState struct {
	Spec AttachSpec `json:"spec"`
	// Input has been read and is not in stdin yet; Queue is to be written.
	Input      []byte `json:"input,omitempty"`
	Queue      []byte `json:"queue,omitempty"`
	HeldKeys   int    `json:"held_keys,omitempty"`
	InputEnded bool   `json:"input_ended,omitempty"`
	Finishing  bool   `json:"finishing,omitempty"`
	// Spool says that there is one, and SpoolHead and SpoolTail where in it.
	Spool     bool  `json:"spool,omitempty"`
	SpoolHead int64 `json:"spool_head,omitempty"`
	SpoolTail int64 `json:"spool_tail,omitempty"`
}

// Pause stops every stream and returns copies of everything.
func (s *server) Pause() (spawn.Handover, error) {
	s.ops.Lock() // waits for calls that are under way
	s.frozen = true
	s.ops.Unlock()
	streams := s.all()
	for _, st := range streams {
		st.freeze()
	}
	var out state
	var files, copies []*os.File
	var err error
	for _, st := range streams {
		part, f, c, partErr := st.save()
		out.Streams = append(out.Streams, part)
		files, copies = append(files, f...), append(copies, c...)
		if partErr != nil {
			err = partErr
			break
		}
	}
	sent := func() {
		for _, f := range copies {
			_ = f.Close()
		}
	}
	resume := func() {
		for _, st := range streams {
			st.thaw()
		}
		s.ops.Lock()
		s.frozen = false
		s.ops.Unlock()
	}
	var fds []int
	if err == nil {
		fds, err = fdpass.Descriptors(files...)
	}
	if err != nil {
		sent()
		resume()
		return spawn.Handover{}, err
	}
	return spawn.Handover{State: out, FDs: fds, Sent: sent, Resume: resume, Commit: func() error {
		for _, st := range streams {
			st.abandon()
		}
		s.forget(streams)
		return nil
	}}, nil
}

// Adopt takes over what Pause returned.
func (s *server) Adopt(load func(any) error, fds []int) error {
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "inherited")
	}
	taken := 0
	take := func() (*os.File, error) {
		if taken == len(files) {
			return nil, fmt.Errorf("only %d descriptors came: %w", len(files), errdefs.ErrInvalidArgument)
		}
		taken++
		return files[taken-1], nil
	}
	var st state
	err := load(&st)
	for _, part := range st.Streams {
		if err != nil {
			break
		}
		stream := newStream(part.Spec.ID, s.settings)
		if err = stream.restore(part, take); err == nil {
			s.put(stream)
		}
	}
	for _, f := range files[taken:] {
		_ = f.Close()
	}
	return err
}

// Drain waits for the clients of closed streams.
func (s *server) Drain(ctx context.Context) {
	for _, st := range s.leavers() {
		done := make(chan struct{})
		go func() {
			st.wg.Wait()
			close(done)
		}()
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

// freeze stops everything and returns when nothing moves.
func (s *stream) freeze() {
	s.mu.Lock()
	s.frozen = true
	close(s.freezing)
	outputs := slices.Clone(s.outputs)
	s.mu.Unlock()
	for _, o := range outputs {
		_ = o.file.SetReadDeadline(past)
	}
	for _, a := range s.attached() {
		a.freeze()
	}
	// The file may be set up to the moment that freezing was closed.
	if s.stdin != nil {
		if f := s.stdin.get(); f != nil {
			_ = f.SetWriteDeadline(past)
		}
	}
	s.wg.Wait()
}

// thaw goes on after a freeze.
func (s *stream) thaw() {
	s.mu.Lock()
	s.frozen, s.freezing = false, make(chan struct{})
	for _, o := range s.outputs {
		_ = o.file.SetReadDeadline(noDeadline)
	}
	s.mu.Unlock()
	if s.stdin != nil {
		if f := s.stdin.get(); f != nil {
			_ = f.SetWriteDeadline(noDeadline)
		}
	}
	s.run()
	for _, a := range s.attached() {
		a.thaw()
	}
}

func (s *stream) isFrozen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen
}

func (s *stream) isFreezing() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freezing
}

// save is the frozen stream's state; of the files, copies are to be closed.
func (s *stream) save() (st streamState, files, copies []*os.File, err error) {
	st = streamState{Spec: s.spec, Opened: s.isOpen}
	st.Spec.ID = s.id
	for _, o := range s.outputs {
		st.Outputs = append(st.Outputs, o.name)
		files = append(files, o.file)
	}
	if s.stdin != nil {
		st.StdinClosed = s.stdin.isClosed()
		if f := s.stdin.get(); f != nil {
			st.StdinOpen = true
			files = append(files, f)
		}
	}
	if s.log != nil {
		st.Pending = s.log.Pending()
	}
	for _, a := range s.attached() {
		if a.isDead() {
			continue
		}
		f, err := a.conn.File()
		if err != nil {
			return st, files, copies, fmt.Errorf("copy a client of %s: %w", s.id, err)
		}
		client, spool := a.save()
		st.Clients = append(st.Clients, client)
		files, copies = append(files, f), append(copies, f)
		if client.Spool {
			files = append(files, spool)
		}
	}
	return st, files, copies, nil
}

// restore goes on with a saved stream; take gives the next file.
func (s *stream) restore(st streamState, take func() (*os.File, error)) error {
	var outputs []*output
	for _, name := range st.Outputs {
		f, err := take()
		if err != nil {
			return err
		}
		_ = f.SetReadDeadline(noDeadline)
		o, err := newOutput(name, codes[name], f)
		if err != nil {
			return err
		}
		outputs = append(outputs, o)
	}
	var stdin *input
	if st.Spec.Stdin != "" && st.Spec.OpenStdin {
		stdin = newInput(st.Spec.Stdin)
		if st.StdinClosed {
			stdin.close()
		}
	}
	if st.StdinOpen {
		f, err := take()
		if err != nil {
			return err
		}
		stdin.set(f)
	}
	if err := s.restoreClients(st.Clients, take); err != nil {
		return err
	}
	if !st.Opened {
		return nil
	}
	var log logWriter
	if len(outputs) > 0 {
		var err error
		if log, err = openLog(st.Spec, s.journal, s.logResult); err != nil {
			return err
		}
		if log != nil {
			log.Restore(st.Pending)
		}
	}
	s.begin(st.Spec, outputs, stdin, log)
	return nil
}

func (s *stream) restoreClients(clients []clientState, take func() (*os.File, error)) error {
	for _, c := range clients {
		f, err := take()
		if err != nil {
			return err
		}
		a, err := newAttachment(s, c.Spec, f)
		_ = f.Close()
		if err != nil {
			return err
		}
		a.pending, a.queue, a.keys.held = c.Input, c.Queue, c.HeldKeys
		a.inputEnded, a.finishing = c.InputEnded, c.Finishing
		if c.Spool {
			f, err := take()
			if err != nil {
				return err
			}
			a.spool = &spool{file: f, limit: spoolLimit, head: c.SpoolHead, tail: c.SpoolTail}
		}
		s.add(a)
	}
	return nil
}

// abandon closes our copies of what a successor has.
func (s *stream) abandon() {
	s.mu.Lock()
	outputs := s.outputs
	s.outputs = nil
	s.mu.Unlock()
	for _, o := range outputs {
		_ = o.file.Close()
	}
	if s.stdin != nil {
		s.stdin.close()
	}
	if s.log != nil && len(outputs) > 0 {
		_ = s.log.Close()
	}
	for _, a := range s.attached() {
		a.drop()
	}
}

func (a *attachment) freeze() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozen = true
	_ = a.conn.SetDeadline(past)
	a.cond.Broadcast()
}

func (a *attachment) thaw() {
	a.mu.Lock()
	a.frozen = false
	dead := a.dead || a.lingering.Load()
	_ = a.conn.SetDeadline(noDeadline)
	a.mu.Unlock()
	if !dead {
		a.start()
	}
}

func (a *attachment) isDead() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead || a.lingering.Load()
}

func (a *attachment) save() (st clientState, spool *os.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	st = clientState{
		Spec: a.spec, Input: a.pending, Queue: a.queue, HeldKeys: a.keys.held,
		InputEnded: a.inputEnded, Finishing: a.finishing,
	}
	if a.spool.size() > 0 {
		st.Spool, st.SpoolHead, st.SpoolTail = true, a.spool.head, a.spool.tail
		spool = a.spool.file
	}
	return st, spool
}
