// Package testcontainers is the test suite of somebody who uses Testcontainers and
// has not heard of Fairlead: DOCKER_HOST alone says which engine it meets. The
// package above starts it; its image, IMAGE, has a busybox.
package testcontainers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

var image = os.Getenv("IMAGE")

// start runs a container until the end of the test.
func start(t *testing.T, opts ...testcontainers.ContainerCustomizer) *testcontainers.DockerContainer {
	t.Helper()
	c, err := testcontainers.Run(t.Context(), image, opts...)
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func body(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// A server is reached by the port it was given, with files that were put into it
// before it started.
func TestServer(t *testing.T) {
	t.Parallel()
	c := start(t,
		testcontainers.WithExposedPorts("80/tcp"),
		testcontainers.WithFiles(testcontainers.ContainerFile{
			Reader: strings.NewReader("hello"), ContainerFilePath: "/srv/index.html", FileMode: 0o644,
		}),
		testcontainers.WithEnv(map[string]string{"GREETING": "good day"}),
		testcontainers.WithCmd("sh", "-c", "echo serving; httpd -f -p 80 -h /srv"),
		testcontainers.WithWaitStrategy(
			wait.ForLog("serving"), wait.ForListeningPort("80/tcp"), wait.ForHTTP("/").WithPort("80/tcp")),
	)
	endpoint, err := c.PortEndpoint(t.Context(), "80/tcp", "http")
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, endpoint); got != "hello" {
		t.Errorf("it serves %q", got)
	}
	code, out, err := c.Exec(t.Context(), []string{"sh", "-c", "echo $GREETING; exit 3"}, exec.Multiplexed())
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(out); code != 3 || string(text) != "good day\n" {
		t.Errorf("exec: exit code %d, %q", code, text)
	}
	if err := c.CopyToContainer(t.Context(), []byte("changed"), "/srv/index.html", 0o644); err != nil {
		t.Fatal(err)
	}
	if got := body(t, endpoint); got != "changed" {
		t.Errorf("after a copy it serves %q", got)
	}
	file, err := c.CopyFileFromContainer(t.Context(), "/srv/index.html")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if text, _ := io.ReadAll(file); string(text) != "changed" {
		t.Errorf("copied out: %q", text)
	}
	state, err := c.State(t.Context())
	if err != nil || !state.Running {
		t.Errorf("state %+v: %v", state, err)
	}
}

// Two containers find each other by the alias they have on a network of their own,
// and one waits for the other's health.
func TestNetwork(t *testing.T) {
	t.Parallel()
	n, err := network.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	testcontainers.CleanupNetwork(t, n)
	start(t,
		network.WithNetwork([]string{"web"}, n),
		testcontainers.WithCmd("sh", "-c", "mkdir /srv; sleep 1; echo by name > /srv/index.html; httpd -f -p 80 -h /srv"),
		testcontainers.WithConfigModifier(func(c *container.Config) {
			c.Healthcheck = &container.HealthConfig{
				Test: []string{"CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"}, Interval: 200 * time.Millisecond, Retries: 20,
			}
		}),
		testcontainers.WithWaitStrategy(wait.ForHealthCheck()),
	)
	client := start(t,
		network.WithNetwork([]string{"client"}, n),
		testcontainers.WithCmd("wget", "-q", "-O", "-", "http://web/"),
		testcontainers.WithWaitStrategy(wait.ForExit()),
	)
	logs, err := client.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	if text, _ := io.ReadAll(logs); !bytes.Contains(text, []byte("by name")) {
		t.Errorf("the client said %q", text)
	}
}

// lines hears a container's output as it comes.
type lines chan string

func (l lines) Accept(line testcontainers.Log) { l <- string(line.Content) }

// What a container prints is followed, and what a volume has outlives it.
func TestVolumeAndLogs(t *testing.T) {
	t.Parallel()
	volume := fmt.Sprintf("kept-%d", time.Now().UnixNano())
	heard := make(lines, 16)
	first := start(t,
		testcontainers.WithMounts(testcontainers.VolumeMount(volume, "/data")),
		testcontainers.WithTmpfs(map[string]string{"/scratch": "size=1m"}),
		testcontainers.WithLogConsumers(heard),
		testcontainers.WithCmd("sh", "-c", "grep -q ' /scratch tmpfs' /proc/mounts && echo kept > /data/file; sleep 1; echo written; sleep 3600"),
		testcontainers.WithWaitStrategy(wait.ForLog("written")),
	)
	select {
	case got := <-heard:
		if got != "written\n" {
			t.Errorf("the consumer heard %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the consumer heard nothing")
	}
	timeout := time.Duration(0)
	if err := first.Stop(t.Context(), &timeout); err != nil {
		t.Fatal(err)
	}
	second := start(t,
		testcontainers.WithMounts(testcontainers.VolumeMount(volume, "/data")),
		testcontainers.WithCmd("cat", "/data/file"),
		testcontainers.WithWaitStrategy(wait.ForExit()),
	)
	logs, err := second.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	if text, _ := io.ReadAll(logs); !bytes.Contains(text, []byte("kept")) {
		t.Errorf("the second container found %q", text)
	}
	for _, c := range []testcontainers.Container{first, second} {
		if err := testcontainers.TerminateContainer(c, testcontainers.RemoveVolumes(volume)); err != nil && c == testcontainers.Container(second) {
			t.Error(err)
		}
	}
}

// An image that is not there is pulled from the registry it is named after.
func TestPull(t *testing.T) {
	t.Parallel()
	remote := os.Getenv("REMOTE_IMAGE")
	c, err := testcontainers.Run(context.Background(), remote,
		testcontainers.WithAlwaysPull(), testcontainers.WithCmd("echo", "pulled"), testcontainers.WithWaitStrategy(wait.ForExit()))
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		t.Fatal(err)
	}
}
