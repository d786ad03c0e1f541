package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/streams"
)

// host is one machine's worth of what an Engine stands on: a containerd and a
// streams process of our own, shared by all tests, each with its own namespace
// and roots.
var host struct {
	dir     string
	address string
	image   []byte
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == streams.Name {
		cmd := streams.Command()
		cmd.SetArgs(os.Args[2:])
		if err := cmd.ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) (code int) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests run containers and need root")
		return 1
	}
	dir, err := os.MkdirTemp("", "fl-engine-")
	if err != nil {
		panic(err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	ctx := context.Background()
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	ctr, err := runtime.Start(ctx, runtime.Config{DataRoot: filepath.Join(dir, "d"), ExecRoot: dir, Logger: quiet, Child: true})
	if err != nil {
		panic(err)
	}
	defer func() {
		if err := errors.Join(ctr.RemoveCgroups(), ctr.Stop(ctx)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if left := leftBehind(dir); left != "" {
			fmt.Fprintln(os.Stderr, "left behind:\n"+left)
			code = 1
		}
	}()
	host.dir, host.address, host.image = dir, ctr.Address(), busyboxRoot()
	leaks := goleak.IgnoreCurrent()
	if code = m.Run(); code == 0 {
		if err := goleak.Find(leaks); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// leftBehind lists processes and mounts that have to do with dir.
func leftBehind(dir string) string {
	var out []string
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			out = append(out, line)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		raw, _ := os.ReadFile(p)
		if bytes.Contains(raw, []byte(dir)) {
			out = append(out, p+" "+strings.ReplaceAll(string(raw), "\x00", " ")+"\n")
		}
	}
	return strings.Join(out, "")
}

// busyboxRoot is a root file system of the machine's static busybox.
func busyboxRoot() []byte {
	binary, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		panic(err)
	}
	applets, err := exec.Command("/usr/bin/busybox", "--list").Output()
	if err != nil {
		panic(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		if _, err := w.Write(content); err != nil {
			panic(err)
		}
	}
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "usr"} {
		add(tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	add(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, binary)
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			add(tar.Header{Name: "bin/" + a, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
		}
	}
	add(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1001::/home:/bin/sh\n"))
	add(tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:\ncrew:x:1001:\ndeck:x:1002:sailor\n"))
	add(tar.Header{Name: "etc/script", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("not to be run\n"))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// memoryStore is a Store in memory, as durable as the test.
type memoryStore struct {
	mu  sync.Mutex
	raw map[string][]byte
	err error // of the next Put
}

func newMemoryStore() *memoryStore { return &memoryStore{raw: make(map[string][]byte)} }

func (s *memoryStore) Put(id string, r Record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.err; err != nil {
		s.err = nil
		return err
	}
	s.raw[id] = raw
	return nil
}

func (s *memoryStore) Delete(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.raw, id)
	return nil
}

func (s *memoryStore) ForEach(f func(string, Record, error) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, raw := range s.raw {
		var r Record
		if err := f(id, r, json.Unmarshal(raw, &r)); err != nil {
			return err
		}
	}
	return nil
}

// fakeNetwork makes real namespaces and gives addresses that nothing has.
type fakeNetwork struct {
	dir string

	mu          sync.Mutex
	attachments map[string]spec.Attachment
	networks    []spec.Network
	next        byte
	fail        error // of the next Attach
	warnings    []string
}

func newFakeNetwork(dir string) *fakeNetwork {
	return &fakeNetwork{
		dir: dir, attachments: make(map[string]spec.Attachment), next: 2,
		networks: []spec.Network{{
			ID: strings.Repeat("b", 64), Name: "bridge", Driver: "bridge", Bridge: "fairlead0", Default: true, IPv4: true, Masquerade: true, ICC: true,
			Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")}},
		}},
	}
}

func (n *fakeNetwork) Attach(_ context.Context, req spec.AttachRequest) (spec.Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.fail; err != nil {
		n.fail = nil
		return spec.Attachment{}, err
	}
	a := spec.Attachment{Sandbox: spec.Sandbox{ID: req.ID, Name: req.Name, Path: filepath.Join(n.dir, req.ID)}}
	for i, r := range req.Endpoints {
		for _, net := range n.networks {
			if net.ID == r.Network {
				a.Endpoints = append(a.Endpoints, spec.Endpoint{
					ID: strings.Repeat("e", 64), NetworkID: net.ID, Network: net.Name, Interface: fmt.Sprintf("eth%d", i),
					MAC: spec.HardwareAddr{2, 66, 172, 17, 0, n.next}, Gateway4: net.Subnets[0].Gateway,
					Addr4: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 17, 0, n.next}), 16),
				})
				n.next++
			}
		}
	}
	for _, p := range req.Ports {
		a.Ports = append(a.Ports, spec.PortBinding{
			Proto: p.Proto, Host: netip.AddrPortFrom(netip.IPv4Unspecified(), p.HostPort),
			Container: netip.AddrPortFrom(a.Endpoints[0].Addr4.Addr(), p.Port),
		})
	}
	if err := netns.New(a.Sandbox.Path); err != nil {
		return spec.Attachment{}, err
	}
	n.attachments[req.ID] = a
	return a, nil
}

func (n *fakeNetwork) Detach(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.attachments[id]; !ok {
		return nil
	}
	delete(n.attachments, id)
	return netns.Remove(filepath.Join(n.dir, id))
}

func (n *fakeNetwork) Attachment(id string) (spec.Attachment, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.attachments[id]
	return a, ok
}

func (n *fakeNetwork) Attachments() []spec.Attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []spec.Attachment
	for _, a := range n.attachments {
		out = append(out, a)
	}
	return out
}

func (n *fakeNetwork) Warnings() []string { return n.warnings }

func (n *fakeNetwork) Check(context.Context) ([]string, error) { return nil, nil }

func (n *fakeNetwork) CreateNetwork(_ context.Context, req spec.NetworkRequest) (spec.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	made := spec.Network{ID: newID(), Name: req.Name, Driver: "bridge", Internal: req.Internal, Subnets: req.Subnets, Labels: req.Labels, IPv4: true}
	n.networks = append(n.networks, made)
	return made, nil
}

func (n *fakeNetwork) RemoveNetwork(_ context.Context, ref string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.networks = slices.DeleteFunc(n.networks, func(x spec.Network) bool { return x.ID == ref })
	return nil
}

func (n *fakeNetwork) Networks() []spec.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.networks)
}

func (n *fakeNetwork) Network(ref string) (spec.Network, error) {
	for _, x := range n.Networks() {
		if x.Name == ref || x.ID == ref {
			return x, nil
		}
	}
	return spec.Network{}, fmt.Errorf("network %s: %w", ref, errdefs.ErrNotFound)
}

// fixture is one daemon's engine, which may be ended and started again.
type fixture struct {
	*Engine
	t       testing.TB
	cfg     Config
	store   *memoryStore
	network *fakeNetwork
	streams *streams.Client
	runtime *runtime.Containerd
	address string // of containerd
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureOn(t, host.address)
}

func newFixtureOn(t testing.TB, address string) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp(host.dir, "t")
	if err != nil {
		t.Fatal(err)
	}
	ns := filepath.Join(dir, "x", "netns")
	if err := os.MkdirAll(ns, 0o755); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: newMemoryStore(), network: newFakeNetwork(ns), address: address}
	f.cfg = Config{
		DataRoot: filepath.Join(dir, "d"), ExecRoot: filepath.Join(dir, "x"), Network: f.network, Store: f.store,
		HostNetns: "/proc/self/ns/net", Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
	}
	if err := os.WriteFile(f.cfg.ResolvConf, []byte("nameserver 127.0.0.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.begin()
	t.Cleanup(f.finish)
	f.must(f.ImageImport(t.Context(), bytes.NewReader(host.image), "demo", []string{`CMD ["sh"]`}, ""))
	return f
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

func (f *fixture) begin() {
	f.t.Helper()
	ctx := context.Background()
	var err error
	f.runtime, err = runtime.Start(ctx, runtime.Config{Address: f.address, DataRoot: f.cfg.DataRoot, ExecRoot: f.cfg.ExecRoot})
	if err != nil {
		f.t.Fatal(err)
	}
	if f.streams, err = streams.Ensure(ctx, streams.Options{ExecRoot: f.cfg.ExecRoot, Logger: f.cfg.Log}); err != nil {
		f.t.Fatal(err)
	}
	f.cfg.Runtime, f.cfg.Streams = f.runtime, f.streams
	if f.Engine, err = New(ctx, f.cfg); err != nil {
		f.t.Fatal(err)
	}
	if err := f.Restore(ctx); err != nil {
		f.t.Fatal(err)
	}
}

// crash ends the engine as SIGKILL would: nothing is finished or written.
func (f *fixture) crash() {
	f.end()
	f.watch.Wait()
	if err := errors.Join(f.streams.Disconnect(), f.runtime.Close()); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) finish() {
	ctx := context.Background()
	if err := f.Teardown(ctx); err != nil {
		f.t.Error(err)
	}
	if images, err := f.images.List(ctx); err != nil {
		f.t.Error(err)
	} else {
		for _, i := range images {
			if err := f.images.Remove(ctx, i.Name); err != nil {
				f.t.Error(err)
			}
		}
	}
	for _, dir := range []string{f.containersDir(), f.fifosDir(), f.network.dir} {
		if left, err := names(dir); err != nil || len(left) > 0 {
			f.t.Errorf("%s has %v left, %v", dir, left, err)
		}
	}
	if err := errors.Join(f.Close(), f.streams.Stop(ctx), f.runtime.Close()); err != nil {
		f.t.Error(err)
	}
	if err := netns.RemoveDir(f.network.dir); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) must(s string, err error) string {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// create makes a container of the demo image with the command; change may alter
// what is asked for.
func (f *fixture) create(change func(*CreateRequest), cmd ...string) string {
	f.t.Helper()
	req := CreateRequest{Config: &container.Config{Image: "demo", Cmd: cmd}, HostConfig: &container.HostConfig{}}
	if change != nil {
		change(&req)
	}
	resp, err := f.Create(f.t.Context(), req)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.ID
}

// run runs it to its end and returns its output and exit code.
func (f *fixture) run(change func(*CreateRequest), cmd ...string) (output string, code int) {
	f.t.Helper()
	id := f.create(change, cmd...)
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	ended, err := f.Wait(ctx, id, container.WaitConditionNextExit)
	f.ok(err)
	f.ok(f.Start(ctx, id))
	select {
	case r := <-ended:
		return f.output(id), int(r.StatusCode)
	case <-ctx.Done():
		f.t.Fatalf("%v does not end", cmd)
		return "", 0
	}
}

// log is everything the container wrote.
func (f *fixture) output(id string) string {
	f.t.Helper()
	var b strings.Builder
	err := f.Logs(f.t.Context(), id, LogsOptions{Stdout: true, Stderr: true, Tail: -1}, func(_ string, _ time.Time, line []byte) error {
		b.Write(line)
		return nil
	})
	f.ok(err)
	return b.String()
}

func (f *fixture) state(id string) *container.State {
	f.t.Helper()
	r, err := f.Inspect(f.t.Context(), id, false)
	f.ok(err)
	return r.State
}

// clean fails the test when the engine finds a difference between what should
// be and what is.
func (f *fixture) clean() {
	f.t.Helper()
	diff, err := f.Check(f.t.Context())
	if err != nil || len(diff) > 0 {
		f.t.Fatalf("check: %v %v", diff, err)
	}
}

// eventually waits for the condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 10 seconds", what)
		}
	}
}
