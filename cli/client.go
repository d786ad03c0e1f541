package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/client"
)

// defaultHost is where `fairlead daemon` listens unless told otherwise.
const defaultHost = "unix:///run/fairlead/fairlead.sock"

// hostVariable names another daemon, as -H does.
const hostVariable = "FAIRLEAD_HOST"

// daemonHost is the daemon's address: -H, else $FAIRLEAD_HOST, else $DOCKER_HOST, else
// the default.
func (a *app) daemonHost() string {
	return cmp.Or(a.host, os.Getenv(hostVariable), os.Getenv(client.EnvOverrideHost), defaultHost)
}

// client makes a client of the daemon. Nothing is sent before the first call.
func (a *app) client() (*client.Client, error) {
	host := a.daemonHost()
	options, err := a.hostOptions(host)
	if err != nil {
		return nil, err
	}
	c, err := client.New(append(options,
		client.WithUserAgent("Fairlead-Client/"+a.build.Version+" (linux)"),
		client.WithAPIVersionFromEnv(),
	)...)
	if err != nil {
		return nil, usagef("invalid daemon address %q: %w", host, err)
	}
	return c, nil
}

// with calls do with a client and says how to mend what commonly goes wrong
// with the connection.
func (a *app) with(do func(*client.Client) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return a.explain(do(c))
}

// explain adds the way out to an error of reaching the daemon.
func (a *app) explain(err error) error {
	host := a.daemonHost()
	var exit exitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.err != nil:
		return exitError{code: exit.code, err: a.explain(exit.err)}
	case tlsRefusal(err) != nil:
		return fmt.Errorf("the daemon at %s: %w", host, tlsRefusal(err))
	case plainAnswer(err):
		return fmt.Errorf("%w: one side talks TLS and the other does not; --tlsverify and its certificates are for daemons with TLS", err)
	case !unreachable(err):
		return err
	case isPermission(err):
		return fmt.Errorf("may not use the daemon's socket %s: be root, or a member of its group", host)
	}
	return fmt.Errorf("no daemon answers at %s: start one with `fairlead daemon` as root, or name another with -H or %s",
		host, hostVariable)
}

// unreachable says whether a call failed because no daemon took it.
func unreachable(err error) bool {
	return client.IsErrConnectionFailed(err) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, fs.ErrNotExist) && strings.Contains(err.Error(), "dial") || isPermission(err) && errors.As(err, new(*net.OpError))
}

func isPermission(err error) bool {
	return errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied while trying to connect")
}

// call makes a request that is not Docker's: the paths under /fairlead/v1.
// The answer's body, JSON, is read into out where that is not nil.
func (a *app) call(ctx context.Context, method, path string, out any) error {
	return a.send(ctx, method, path, nil, out)
}

// send is call with a body, JSON, where that is not nil.
func (a *app) send(ctx context.Context, method, path string, in, out any) error {
	var sent io.Reader = http.NoBody
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(raw)
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	dial := c.Dialer()
	web := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+client.DummyHost+path, sent)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		var answer common.ErrorResponse
		if err := json.Unmarshal(body, &answer); err != nil || answer.Message == "" {
			return fmt.Errorf("the daemon answered %s: %s", resp.Status, bytes.TrimSpace(body))
		}
		return errors.New(answer.Message)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}
