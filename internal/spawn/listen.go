package spawn

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/fairlead/fairlead/internal/fdpass"
)

func (s *Service) listening() *net.UnixListener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener
}

// socketEvery is between two looks at whether the socket can still be reached.
const socketEvery = time.Second

// keepSocket has the socket in its place again when somebody deleted it: the next daemon
// would find nobody there, and start a second process beside this one. It ends with the
// channel, or a handover.
func (s *Service) keepSocket(ended <-chan struct{}) {
	tick := time.NewTicker(socketEvery)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-s.handedOver:
			return
		case <-s.stop:
			return
		case <-tick.C:
		}
		if _, err := os.Lstat(SocketPath(s.ExecRoot, s.Name)); errors.Is(err, os.ErrNotExist) {
			s.listenAgain()
		}
	}
}

// listenAgain makes the socket anew; connections that there are live on.
func (s *Service) listenAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stop:
		return
	case <-s.handedOver:
		return
	default:
	}
	if s.handing != nil {
		return // the successor sees to it
	}
	l, err := fdpass.Listen(SocketPath(s.ExecRoot, s.Name))
	if err != nil {
		s.Logger.Error("the socket is gone and cannot be made again yet", "err", err)
		return
	}
	old := s.listener
	s.listener = l
	s.Logger.Warn("the socket was deleted; it is there again", "path", SocketPath(s.ExecRoot, s.Name))
	_ = old.Close()
}
