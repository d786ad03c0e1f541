package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	f := limitFlags{
		volumeFlags: volumeFlags{mounts: []string{"type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave,bind-recursive=disabled", "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1777"}},
		ulimits:     []string{"nofile=1024:4096"}, shm: "1g", swappiness: -1,
	}
	f.memory, f.memorySwap, f.cpuset = "64m", "-1", "0-1"
	var host container.HostConfig
	if err := f.apply(&host); err != nil {
		t.Fatal(err)
	}
	mounts, _ := json.Marshal(host.Mounts)
	if want := `[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rslave","NonRecursive":true}},` +
		`{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":67108864,"Mode":1023}}]`; string(mounts) != want {
		t.Errorf("mounts %s", mounts)
	}
	if host.Memory != 64<<20 || host.MemorySwap != -1 || host.ShmSize != 1<<30 || host.CpusetCpus != "0-1" || host.Ulimits[0].Hard != 4096 {
		t.Errorf("%+v", host)
	}
}

func TestLimitsRefused(t *testing.T) {
	t.Parallel()
	with := func(set func(*limitFlags)) limitFlags {
		f := limitFlags{swappiness: -1}
		set(&f)
		return f
	}
	for says, f := range map[string]limitFlags{
		`type cluster is not supported`:       with(func(f *limitFlags) { f.mounts = []string{"type=cluster,source=data,target=/d"} }),
		`volume options go with type=volume`:  with(func(f *limitFlags) { f.mounts = []string{"type=bind,source=/a,target=/d,volume-nocopy"} }),
		`target= is missing`:                  with(func(f *limitFlags) { f.mounts = []string{"type=bind,source=/a"} }),
		`source= is missing`:                  with(func(f *limitFlags) { f.mounts = []string{"type=bind,target=/a"} }),
		`a tmpfs has no source`:               with(func(f *limitFlags) { f.mounts = []string{"type=tmpfs,target=/a,source=/b"} }),
		`bind options go with type=bind`:      with(func(f *limitFlags) { f.mounts = []string{"type=tmpfs,target=/a,bind-propagation=shared"} }),
		`tmpfs options go with type=tmpfs`:    with(func(f *limitFlags) { f.mounts = []string{"type=bind,source=/a,target=/a,tmpfs-size=1m"} }),
		`colour: unknown key`:                 with(func(f *limitFlags) { f.mounts = []string{"type=bind,colour=red"} }),
		`target: want KEY=VALUE`:              with(func(f *limitFlags) { f.mounts = []string{"type=bind,target"} }),
		`readonly: want true or false`:        with(func(f *limitFlags) { f.mounts = []string{"type=bind,readonly=perhaps"} }),
		`bind-create-src: want true or false`: with(func(f *limitFlags) { f.mounts = []string{"type=bind,bind-create-src=perhaps"} }),
		`tmpfs-mode: want an octal number`:    with(func(f *limitFlags) { f.mounts = []string{"type=tmpfs,tmpfs-mode=rwx"} }),
		`invalid --ulimit "nofiles=1"`:        with(func(f *limitFlags) { f.ulimits = []string{"nofiles=1"} }),
		`invalid --shm-size "big"`:            with(func(f *limitFlags) { f.shm = "big" }),
		`invalid --memory-swap "-2"`:          with(func(f *limitFlags) { f.memorySwap = "-2" }),
		`invalid --memory "0"`:                with(func(f *limitFlags) { f.memory = "0" }),
		`bind-recursive: want enabled, disab`: with(func(f *limitFlags) { f.mounts = []string{"type=bind,bind-recursive=half"} }),
	} {
		err := f.apply(&container.HostConfig{})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", f, err, says)
		}
	}
}

func TestNetworkFlag(t *testing.T) {
	t.Parallel()
	f := createFlags{
		networks: []string{
			"name=red,alias=a,alias=b,ip=10.9.0.9,ip6=fd00::9,mac-address=02:42:0a:09:00:09,link-local-ip=169.254.1.1,gw-priority=-3," +
				"driver-opt=com.docker.network.endpoint.ifname=up0",
			"blue",
		},
		aliases: []string{"c"}, links: []string{"db:d"}, linkLocal: []string{"fe80::9"},
	}
	mode, endpoints, err := f.endpoints()
	if err != nil || mode != "red" || len(endpoints) != 2 {
		t.Fatalf("%s %v %v", mode, endpoints, err)
	}
	got, _ := json.Marshal(endpoints["red"])
	for _, part := range []string{
		`"Aliases":["a","b","c"]`, `"Links":["db:d"]`, `"IPv4Address":"10.9.0.9"`, `"IPv6Address":"fd00::9"`, `"MacAddress":"02:42:0a:09:00:09"`,
		`"LinkLocalIPs":["169.254.1.1","fe80::9"]`, `"GwPriority":-3`, `"DriverOpts":{"com.docker.network.endpoint.ifname":"up0"}`,
	} {
		if !strings.Contains(string(got), part) {
			t.Errorf("no %s in %s", part, got)
		}
	}
	// On the default network links are the container's, not an endpoint's.
	plain := createFlags{links: []string{"db:d"}}
	if _, endpoints, err := plain.endpoints(); err != nil || len(endpoints["default"].Links) > 0 {
		t.Errorf("%v, %v", endpoints, err)
	}
	for says, value := range map[string]string{
		"unknown key: want name": "name=red,speed=1", "name= is missing": "alias=a", "want a number": "name=red,gw-priority=high",
		"want an address of 169.254": "name=red,link-local-ip=10.0.0.1", "driver-opt: want KEY=VALUE": "name=red,driver-opt=x",
	} {
		f := createFlags{networks: []string{value}}
		if _, _, err := f.endpoints(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", value, err, says)
		}
	}
}
