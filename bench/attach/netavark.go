package attach

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Debian's podman finds them here.
const (
	netavarkBinary = "/usr/lib/podman/netavark"
	aardvarkBinary = "/usr/lib/podman/aardvark-dns"
)

// netavark is podman's network set-up: one process for set-up and one for teardown,
// told everything in JSON on standard input. Choosing the address is podman's work and
// so outside the clock, as is making the namespace. Its resolver, aardvark-dns, runs
// already when a container comes to the network that has one.
type netavark struct{ dir string }

// aardvarkReads is how long aardvark-dns may take to read what it is told of: it ends when
// it finds the file empty that netavark is writing anew.
const aardvarkReads = 50 * time.Millisecond

// residentNumber is of the container that keeps aardvark-dns running.
const residentNumber = 60000

func (v *netavark) prepare(ctx context.Context) error {
	if err := os.Mkdir(v.config(), 0o755); err != nil {
		return err
	}
	a, err := v.attachment(wish{n: residentNumber, network: ownNetwork})
	if err != nil {
		return err
	}
	return a.up(ctx)
}

func (v *netavark) config() string { return filepath.Join(v.dir, "netavark") }

func (v *netavark) close() error { return nil }

func (v *netavark) attachment(w wish) (*attachment, error) {
	a := &attachment{netns: netnsPath(v.dir, containerID(w.n)), dial: published}
	if w.network != "" {
		a.dial, a.rest = nil, aardvarkReads
	}
	if err := newNetns(a.netns); err != nil {
		return nil, err
	}
	addr := w.addr
	if !addr.IsValid() {
		addr = netavarkAddress(w)
	}
	config, err := netavarkConfig(w, addr)
	a.up = func(ctx context.Context) error {
		a.addr = addr
		return v.call(ctx, "setup", a.netns, config)
	}
	a.down = func(ctx context.Context) error { return v.call(ctx, "teardown", a.netns, config) }
	a.end = func() error { return dropNetns(a.netns) }
	return a, err
}

// netavarkAddress is what podman would choose.
func netavarkAddress(w wish) netip.Addr {
	second := byte(17)
	if w.network != "" {
		second = 18
	}
	return netip.AddrFrom4([4]byte{172, second, byte((w.n + 1) >> 8), byte(w.n + 1)})
}

func (v *netavark) call(ctx context.Context, verb, path string, config []byte) error {
	cmd := exec.CommandContext(ctx, netavarkBinary, "--config", v.config(), "--aardvark-binary", aardvarkBinary, verb, path)
	cmd.Stdin = bytes.NewReader(config)
	// A file, since the resolver that it may start keeps what it writes to.
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("netavark %s: %w: %s", verb, err, said.Bytes())
	}
	return nil
}

// netavarkConfig is what netavark is told of a container.
func netavarkConfig(w wish, addr netip.Addr) ([]byte, error) {
	type object = map[string]any
	mappings := []object{}
	for _, p := range w.ports {
		mappings = append(mappings, object{
			"container_port": p.container, "host_ip": "", "host_port": p.host, "protocol": "tcp", "range": 1,
		})
	}
	name, bridge, subnet := "bench", "podman0", "172.17.0."
	if w.network != "" {
		name, bridge, subnet = w.network, "podman1", "172.18.0."
	}
	return json.Marshal(object{
		"container_id": containerID(w.n), "container_name": fmt.Sprintf("bench%d", w.n),
		"port_mappings": mappings,
		"networks":      object{name: object{"static_ips": []string{addr.String()}, "interface_name": "eth0", "aliases": []string{fmt.Sprintf("bench%d", w.n)}}},
		"network_info": object{name: object{
			"name": name, "id": containerID(0), "driver": "bridge", "network_interface": bridge,
			"subnets":      []object{{"subnet": subnet + "0/16", "gateway": subnet + "1"}},
			"ipv6_enabled": false, "internal": false, "dns_enabled": w.network != "",
			"ipam_options": object{"driver": "host-local"},
		}},
	})
}
