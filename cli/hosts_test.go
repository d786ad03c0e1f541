package cli_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cli"
	"github.com/fairlead/fairlead/internal/lab"
)

// TestTLS reaches a daemon that asks for certificates, by the flags and by docker's
// variables.
func TestTLS(t *testing.T) {
	authority := lab.NewAuthority(t)
	s := newServer(t)
	defer s.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(authority.Sign("server", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	secure := &http.Server{
		Handler: s.front, ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // refusals are what is tested
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCAs: authority.Client("").RootCAs, MinVersion: tls.VersionTLS12,
		},
	}
	go func() { _ = secure.ServeTLS(l, "", "") }() // until it is closed
	defer func() { _ = secure.Close() }()

	cert, key := authority.Sign("me")
	ca := authority.Path("ca.pem")
	address := "tcp://" + l.Addr().String()
	directory := t.TempDir() // as docker wants it laid out
	for from, to := range map[string]string{ca: "ca.pem", cert: "cert.pem", key: "key.pem"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(directory, to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stranger := lab.NewAuthority(t)
	otherCert, otherKey := stranger.Sign("stranger")
	run := func(args ...string) (code int, output string) {
		var out bytes.Buffer
		code = cli.Main(context.Background(), args, cli.Streams{Out: &out, Err: &out}, cli.Build{})
		return code, out.String()
	}
	flags := []string{"-H", address, "--tlsverify", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key}
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"flags", nil, flags, "CONTAINER ID"},
		{"variables", map[string]string{"DOCKER_HOST": address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": directory}, nil, "CONTAINER ID"},
		{"whoever it is", map[string]string{"DOCKER_CERT_PATH": directory}, []string{"-H", address, "--tls"}, "CONTAINER ID"},
		{"our own host first", map[string]string{"DOCKER_HOST": "tcp://127.0.0.1:1", "FAIRLEAD_HOST": "unix://" + s.socket}, nil, "CONTAINER ID"},
		{"no certificate of ours", map[string]string{"DOCKER_CERT_PATH": t.TempDir()}, []string{"-H", address, "--tls"}, "certificate required"},
		{"a stranger", nil, []string{"-H", address, "--tls", "--tlscert", otherCert, "--tlskey", otherKey}, "our certificate was refused"},
		{"another authority", nil, []string{"-H", address, "--tlsverify", "--tlscacert", stranger.Path("ca.pem"), "--tlscert", cert, "--tlskey", key}, "unknown authority"},
		{"plain to TLS", nil, []string{"-H", address}, "one side talks TLS and the other does not"},
		{"TLS to plain", nil, append([]string{"-H", "tcp://" + plain(t, s).String()}, flags[2:]...), "one side talks TLS and the other does not"},
		{"no file", nil, []string{"-H", address, "--tlsverify", "--tlscacert", "/absent.pem"}, "/absent.pem"},
		{"ssh", nil, []string{"-H", "ssh://me@there"}, "forward the socket"},
		{"no host", nil, []string{"-H", "tcp://"}, "want tcp://HOST:PORT"},
		{"nothing there", nil, []string{"-H", "tcp://127.0.0.1"}, "no daemon answers at tcp://127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"FAIRLEAD_HOST", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"} {
				t.Setenv(name, tt.env[name])
			}
			code, output := run(append(tt.args, "ps")...)
			if !strings.Contains(output, tt.want) || (code == 0) != (tt.want == "CONTAINER ID") {
				t.Errorf("exit %d, want %q:\n%s", code, tt.want, output)
			}
		})
	}
}

// plain serves the same without TLS.
func plain(t *testing.T, s *server) net.Addr {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := &http.Server{Handler: s.front, ReadHeaderTimeout: time.Minute}
	go func() { _ = open.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = open.Close() })
	return l.Addr()
}
