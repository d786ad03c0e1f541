package cli_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/api/apitest"
	"github.com/fairlead/fairlead/cli"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "fairlead" {
		// Whoever runs the tests has a configuration, too: it is left alone. The
		// commands of sessions have one of their own.
		config.SetDir(filepath.Join(os.TempDir(), "fairlead-tests-have-no-configuration"))
	}
	testscript.Main(m, map[string]func(){
		"fairlead": func() {
			os.Exit(cli.Main(context.Background(), os.Args[1:],
				cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
				cli.Build{Version: "1.2.3", Commit: "abc"}))
		},
	})
}

// server is a daemon's API over an engine in memory, on a socket of its own.
type server struct {
	engine *apitest.Engine
	front  *front
	http   *http.Server
	socket string
	down   chan struct{}
}

// serve starts a server; again on the socket of an earlier one if that is given.
func serve(engine *apitest.Engine, socket string) (*server, error) {
	s := &server{engine: engine, front: &front{}, socket: socket, down: make(chan struct{})}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.front.behind = api.New(engine, api.Options{
		Version: "1.2.3", Commit: "abc", Log: slog.New(slog.DiscardHandler),
		Teardown: func(context.Context) error {
			time.AfterFunc(50*time.Millisecond, func() { _ = s.http.Close() })
			return nil
		},
	})
	s.http = &http.Server{
		Handler:           s.front,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: time.Minute,
	}
	go func() {
		defer close(s.down)
		defer cancel()
		_ = s.http.Serve(l) // always ErrServerClosed
	}()
	return s, nil
}

// stop ends the server as a crash does: every connection it holds is cut.
func (s *server) stop() {
	_ = s.http.Close()
	<-s.down
}

func socketDir(t interface {
	Fatal(...any)
	Cleanup(func())
},
) string {
	// A test's own directory may be too long for a socket's path.
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestScripts runs the sessions of testdata/script, each against its own daemon
// with the image demo. Beside testscript's own commands there is
//
//	differs TEXT                         the daemon's debug check finds TEXT
//	answer METHOD PATH FILE [STATUS]     the daemon answers this request with the file
//	files CONTAINER DIRECTORY            the container has these files, for cp
//	sent METHOD PATH                     prints what the last such request was sent with
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("", "cli")
			if err != nil {
				return err
			}
			s, err := serve(apitest.New(), filepath.Join(dir, "s"))
			if err != nil {
				return err
			}
			env.Defer(func() {
				s.engine.Close()
				s.stop()
				_ = os.RemoveAll(dir)
			})
			env.Setenv("FAIRLEAD_HOST", "unix://"+s.socket)
			env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, ".docker"))
			env.Values["engine"] = s.engine
			env.Values["front"] = s.front
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"differs": func(ts *testscript.TestScript, _ bool, args []string) {
				engine, _ := ts.Value("engine").(*apitest.Engine)
				engine.Differ(args...)
			},
			"sent":   sent,
			"answer": answer,
			"files":  files,
		},
		UpdateScripts: os.Getenv("UPDATE") != "",
	})
}
