package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// dockerdFlags is the command line of dockerd 28, and of those before it that people
// still have in their units; the deprecated are there too.
const dockerdFlags = `add-runtime allow-direct-routing allow-nondistributable-artifacts api-cors-header authorization-plugin bip bip6
bridge bridge-accept-fwmark cdi-spec-dir cgroup-parent containerd containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime
cri-containerd data-root debug default-address-pool default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode
default-network-opt default-runtime default-shm-size default-ulimit dns dns-opt dns-search exec-opt exec-root experimental feature
firewall-backend fixed-cidr fixed-cidr-v6 group host host-gateway-ip http-proxy https-proxy icc init init-path insecure-registry ip
ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 label live-restore log-driver log-format log-level log-opt
max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr mtu network-control-plane-mtu network-diagnostic-port
no-new-privileges no-proxy node-generic-resource oom-score-adjust pidfile raw-logs registry-mirror restart rootless seccomp-profile
selinux-enabled shutdown-timeout signature-verification storage-driver storage-opt swarm-default-advertise-addr tls tlscacert tlscert
tlskey tlsverify userland-proxy userland-proxy-path userns-remap`

func TestEveryFlagOfDockerdIsKnown(t *testing.T) {
	t.Parallel()
	cmd := Dockerd(Build{})
	for _, name := range append(strings.Fields(dockerdFlags), "config-file", "validate") {
		if cmd.Flags().Lookup(name) == nil {
			t.Errorf("--%s is not known", name)
		}
	}
	for short, name := range map[string]string{"b": "bridge", "D": "debug", "G": "group", "H": "host", "l": "log-level", "p": "pidfile", "s": "storage-driver", "r": "restart"} {
		if f := cmd.Flags().ShorthandLookup(short); f == nil || f.Name != name {
			t.Errorf("-%s is not --%s", short, name)
		}
	}
	// Every flag has its key in the file, and every key its flag.
	keys := make(map[string]bool)
	raw, err := json.Marshal(asDockerd.defaults())
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for key := range all {
		if f, other := flagOf[key]; other {
			key = f
		}
		keys[key] = true
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !keys[f.Name] && !slices.Contains([]string{"config-file", "validate", "teardown", "halt", "help", "version"}, f.Name) {
			t.Errorf("--%s has no key", f.Name)
		}
	})
}

func TestDefaultsOfDockerd(t *testing.T) {
	t.Setenv("DOCKER_CERT_PATH", "/certs")
	cfg, err := parseAs(t, asDockerd, ``)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.LiveRestore || cfg.Group != "docker" || cfg.PIDFile != "/var/run/docker.pid" || cfg.BridgeName != "docker0" ||
		cfg.DataRoot != DefaultDataRoot || cfg.ShutdownTimeout != 15 || cfg.CA != "/certs/ca.pem" || cfg.on() {
		t.Errorf("defaults: %+v", cfg)
	}
	if got := asDockerd.configFile(); got != "/etc/docker/daemon.json" {
		t.Error(got)
	}
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	if cfg, err = parseAs(t, asDockerd, ``, "-H", "tcp://"); err != nil || !cfg.verifies() || cfg.Hosts[0] != "tcp://localhost:2376" {
		t.Errorf("by the environment: %+v, %v", cfg.Hosts, err)
	}
}

// TestWholeDaemonJSON: every key of dockerd's documentation, with the values that
// mean "as by default" there, and some that do not.
func TestWholeDaemonJSON(t *testing.T) {
	t.Parallel()
	cfg, err := parseAs(t, asDockerd, "\ufeff"+`{
		"allow-nondistributable-artifacts": [], "api-cors-header": "", "authorization-plugins": [], "bip": "", "bridge": "",
		"builder": {"gc": {"enabled": true, "defaultKeepStorage": "10GB"}}, "cgroup-parent": "", "containerd": "/run/containerd/containerd.sock",
		"containerd-namespace": "docker", "containerd-plugin-namespace": "docker-plugins", "data-root": "", "debug": true,
		"default-address-pools": [{"base": "172.30.0.0/16", "size": 24}], "default-cgroupns-mode": "private", "default-gateway": "",
		"default-gateway-v6": "", "default-network-opts": {}, "default-runtime": "runc", "default-shm-size": "128M",
		"default-ulimits": {"nofile": {"Hard": 64000, "Name": "nofile", "Soft": 32000}}, "dns": [], "dns-opts": [], "dns-search": [],
		"exec-opts": [], "exec-root": "", "experimental": false, "features": {"containerd-snapshotter": true, "cdi": true}, "fixed-cidr": "",
		"fixed-cidr-v6": "", "group": "", "host-gateway-ip": "", "hosts": [],
		"proxies": {"http-proxy": "http://proxy.example.com:80", "no-proxy": "*.test.example.com"}, "icc": false, "init": false,
		"init-path": "/usr/libexec/docker-init", "insecure-registries": ["10.0.0.0/8", "r.example:5000"], "ip": "0.0.0.0", "ip-forward": false,
		"ip-masq": false, "iptables": true, "ip6tables": false, "ipv6": false, "labels": ["a=b"], "live-restore": true,
		"log-driver": "json-file", "log-format": "text", "log-level": "", "log-opts": {"cache-disabled": "false", "cache-max-size": "20m", "max-file": "5", "max-size": "10m"},
		"max-concurrent-downloads": 4, "max-concurrent-uploads": 0, "max-download-attempts": 5, "mtu": 0, "no-new-privileges": true,
		"node-generic-resources": [], "oom-score-adjust": 0, "pidfile": "", "raw-logs": true, "registry-mirrors": ["https://m.example"],
		"runtimes": {}, "seccomp-profile": "", "selinux-enabled": false, "shutdown-timeout": 30, "storage-driver": "overlay2",
		"storage-opts": [], "swarm-default-advertise-addr": "", "tls": true, "tlscacert": "", "tlscert": "", "tlskey": "/k", "tlsverify": true,
		"userland-proxy": false, "userland-proxy-path": "/usr/libexec/docker-proxy", "userns-remap": ""}`)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Group != "docker" || cfg.DataRoot != DefaultDataRoot || cfg.MTU != 1500 || cfg.LogLevel != "debug" || cfg.MaxUploads != 5 || cfg.MaxDownloads != 4 {
		t.Errorf("an empty value is not the default: %+v", cfg)
	}
	if cfg.ShmSize != 128<<20 || cfg.Ulimits["nofile"].Soft != 32000 || cfg.LogOptions["max-size"] != "10m" || cfg.HTTPProxy != "http://proxy.example.com:80" ||
		!cfg.LiveRestore || cfg.UserlandProxy || cfg.ICC || !cfg.verifies() || cfg.Key != "/k" || cfg.shutdownTime() != 30*time.Second {
		t.Errorf("a value was lost: %+v", cfg)
	}
	if got := strings.Join(cfg.ignored(), " "); got != "userland-proxy-path raw-logs builder containerd-plugins-namespace feature cdi=true" &&
		got != "containerd-plugins-namespace userland-proxy-path raw-logs builder feature cdi=true" {
		t.Errorf("without meaning: %s", got)
	}
	if got := cfg.ignoredOptions(); !slices.Equal(got, []string{"log-opt cache-disabled", "log-opt cache-max-size"}) {
		t.Errorf("without meaning: %q", got)
	}
	d, err := cfg.engineDefaults()
	if err != nil || len(d.LogConfig.Config) != 2 || d.ShmSize != 128<<20 || !d.NoNewPrivileges || d.LogConfig.Config["max-file"] != "5" || len(d.Ulimits) != 1 || d.SeccompProfile != "" {
		t.Errorf("for the engine: %+v, %v", d, err)
	}
	if r := cfg.engineSettings().Registries; r.Insecure[1] != "r.example:5000" || r.Mirrors[0] != "https://m.example" || r.MaxDownloads != 4 {
		t.Errorf("registries: %+v", r)
	}
}

func TestHarmlessFlagsAreAccepted(t *testing.T) {
	t.Parallel()
	cfg, err := parseAs(t, asDockerd, ``, strings.Fields(`--containerd-namespace moby --containerd-plugins-namespace plugins.moby
		--storage-driver vfs --userland-proxy-path /usr/bin/docker-proxy --debug --label a=b --label c=d=e --shutdown-timeout 2
		--init-path /usr/bin/docker-init --registry-mirror http://127.0.0.1:5000 --insecure-registry 127.0.0.1:5000 --default-network-opt
		bridge=com.docker.network.driver.mtu=1400 --ipv6 --fixed-cidr-v6 fd00:5::/64 --ip6tables --log-driver journald --log-opt tag=x --selinux-enabled
		--signature-verification=false --default-ulimit nofile=10:20 --default-ulimit nproc=5 --default-shm-size 1g --feature cdi --raw-logs
		--exec-opt native.cgroupdriver=cgroupfs --add-runtime runc=/usr/bin/runc --storage-opt overlay2.override_kernel_check=true --no-proxy x -r`)...)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"containerd-plugins-namespace", "storage-driver", "storage-opt", "userland-proxy-path", "raw-logs", "signature-verification", "selinux-enabled", "feature cdi=true"}; !slices.Equal(cfg.ignored(), want) {
		t.Errorf("without meaning: %q", cfg.ignored())
	}
	if cfg.Labels[1] != "c=d=e" || cfg.Ulimits["nproc"].Hard != 5 || cfg.ShmSize != 1<<30 || cfg.LogOptions["tag"] != "x" {
		t.Errorf("read as %+v", cfg)
	}
}

func TestForeignSettingsAreRefusedByName(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"--swarm-default-advertise-addr eth0":    "--swarm-default-advertise-addr is not supported: there is no swarm",
		"--node-generic-resource a=b":            "--node-generic-resource is not supported",
		"--metrics-addr 9323":                    "want HOST:PORT",
		"--authorization-plugin x":               "--authorization-plugin is not supported",
		"--userns-remap default":                 "--userns-remap is not supported",
		"--rootless":                             "needs root",
		"--cri-containerd":                       "--cri-containerd is not supported",
		"--network-diagnostic-port 1":            "--network-diagnostic-port",
		"--cpu-rt-runtime 1":                     "--cgroup-parent",
		"--api-cors-header *":                    "reverse proxy",
		"--restart=false":                        "--restart=false is not supported",
		"--storage-driver windowsfilter":         "--storage-driver windowsfilter",
		"--storage-opt overlay2.size=1G":         "--storage-opt overlay2.size=1G",
		"--add-runtime nvidia=/usr/bin/nvidia":   "--add-runtime nvidia is not supported",
		"--default-runtime nvidia":               "only runc",
		"--exec-opt native.cgroupdriver=systemd": "only the cgroup driver cgroupfs",
		"--exec-opt isolation=hyperv":            "only native.cgroupdriver",
		"--oom-score-adjust 2000":                "-1000 to 1000",
		"--default-ipc-mode host":                "private or shareable",
		"--default-cgroupns-mode none":           "private or host",
		"--shutdown-timeout -5":                  "--shutdown-timeout -5",
		"--label x":                              "bad attribute format",
		"--label x=1 --label x=2":                "conflict labels",
		"--registry-mirror ftp://x":              "invalid mirror",
		"--registry-mirror https://u:p@x":        "username or password",
		"--insecure-registry http://x":           "without a scheme",
		"--max-concurrent-downloads 0":           "--max-concurrent-downloads 0",
		"--default-ulimit nosuch=1":              "invalid ulimit type",
		"--default-shm-size many":                "invalid size",
		"--log-level loud":                       "invalid logging level",
		"--init-path docker-init":                "absolute path",
		"--default-ulimit nofile=20:10":          "nofile",
		"--log-driver splunk":                    "splunk",
		"--log-opt max-size=many":                "max-size",
		"--log-opt nosuch=1":                     "nosuch",
		"--tls=perhaps":                          "true or false",
	} {
		if _, err := parseAs(t, asDockerd, ``, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want one saying %q", args, err, says)
		}
	}
	for file, says := range map[string]string{
		`{"swarm-raft-election-tick": 3}`:                    "swarm",
		`{"nri-opts": {"enable": true}}`:                     "--nri-opts is not supported",
		`{"unknown-option": 1}`:                              "the following directives don't match any configuration option: unknown-option",
		`{"proxies": {"other": ""}}`:                         "configuration option: other",
		`{"default-ulimits": {"nofile": {"Name": "nproc"}}}`: "nofile is of nproc",
		`{"debug": true, "log-level": "nope"}`:               "invalid logging level",
		`{"labels": ["a=1"], "hosts": ["tcp://h"]}`:          "whoever reaches it",
	} {
		if _, err := parseAs(t, asDockerd, file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want one saying %q", file, err, says)
		}
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	_, err := parseAs(t, asDockerd, `{"proxies": {"https-proxy": "http://me:secret@b"}}`, "--https-proxy", "http://me:secret@a")
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "https-proxy: (from flag: http://xxxxx:xxxxx@a, from file: http://xxxxx:xxxxx@b)") {
		t.Error(err)
	}
	if got := masked("no proxy: %zz"); got != "no proxy: %zz" {
		t.Error(got)
	}
}

func TestSeccompProfile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(path, []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{"": "", "builtin": "", "unconfined": "unconfined", path: `{"defaultAction":"SCMP_ACT_ALLOW"}`} {
		if got, err := (&containerSettings{SeccompProfile: given}).seccomp(); err != nil || got != want {
			t.Errorf("%s: %q, %v", given, got, err)
		}
	}
	for _, bad := range []string{path + ".not", "/proc/self/stat"} {
		if _, err := (&containerSettings{SeccompProfile: bad}).seccomp(); err == nil {
			t.Errorf("%s is a profile", bad)
		}
	}
}
