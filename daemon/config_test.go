package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// parse reads a command line and a configuration file as the command does.
func parse(t *testing.T, file string, args ...string) (Config, error) {
	t.Helper()
	return parseAs(t, asFairlead, file, args...)
}

func parseAs(t *testing.T, f front, file string, args ...string) (Config, error) {
	t.Helper()
	cfg := f.defaults()
	flags := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
	cfg.register(flags)
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cfg.mergeFile(path, true, flags); err != nil {
		return cfg, err
	}
	err := cfg.check()
	return cfg, err
}

func TestFlagsAndFileMerge(t *testing.T) {
	t.Parallel()
	cfg, err := parse(t, `{"bip": "10.9.0.1/24", "userland-proxy": false, "hosts": ["unix:///tmp/x.sock"],
		"default-address-pools": [{"base": "10.20.0.0/16", "size": 24}]}`, "--mtu", "1400", "--bip=10.9.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.BIP != "10.9.0.1/24" || cfg.UserlandProxy || cfg.MTU != 1400 || cfg.Hosts[0] != "unix:///tmp/x.sock" || cfg.AddressPools[0].Size != 24 {
		t.Errorf("merged to %+v", cfg)
	}
	if !cfg.LiveRestore || !cfg.IPMasq {
		t.Error("a default was lost")
	}
	cfg, err = parse(t, ``, "--default-address-pool", "base=10.20.0.0/16,size=24", "--exec-root", "/run/x")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.AddressPools[0].Base != "10.20.0.0/16" || cfg.Hosts[0] != "unix:///run/x/fairlead.sock" || cfg.PIDFile != "/run/x/fairlead.pid" {
		t.Errorf("settled to %+v", cfg)
	}
	if _, err := cfg.network(); err != nil {
		t.Error(err)
	}
}

func TestDefaultNetworkSettings(t *testing.T) {
	t.Parallel()
	cfg, err := parse(t, `{"icc": false, "ipv6": true, "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}}}`,
		"--bip6=fd05::1/64", "--fixed-cidr-v6", "fd05::100/120", "--default-gateway-v6=fd05::9")
	if err != nil {
		t.Fatal(err)
	}
	got, err := cfg.network()
	if err != nil {
		t.Fatal(err)
	}
	d := got.Default
	if d.ICC || !d.IPv6 || d.Address6.String() != "fd05::1/64" || d.Range6.String() != "fd05::100/120" || d.Gateway6.String() != "fd05::9" {
		t.Errorf("the default network is %+v", d)
	}
	if got.NetworkOptions["com.docker.network.driver.mtu"] != "1400" {
		t.Errorf("options by default: %v", got.NetworkOptions)
	}
	cfg, err = parse(t, ``, "--default-network-opt", "bridge=com.docker.network.driver.mtu=1300")
	if err != nil || cfg.NetworkOptions["bridge"]["com.docker.network.driver.mtu"] != "1300" || !cfg.ICC {
		t.Errorf("by flag: %+v, %v", cfg.NetworkOptions, err)
	}
}

func TestConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file string
		args       []string
		says       string
	}{
		{"a flag and a key that disagree", `{"mtu": 1400}`, []string{"--mtu=1300"}, "mtu: (from flag: 1300, from file: 1400)"},
		{"hosts that disagree", `{"hosts": ["unix:///a"]}`, []string{"-H", "unix:///b"}, "hosts: (from flag"},
		{"an unknown key", `{"bips": "x"}`, nil, "don't match any configuration option: bips"},
		{"a value of the wrong type", `{"mtu": "big"}`, nil, `key "mtu"`},
		{"no JSON", `mtu=1`, nil, "not a JSON object"},
		{"a bad log format", ``, []string{"--log-format=xml"}, "want text or json"},
		{"a relative root", ``, []string{"--exec-root=run"}, "absolute path"},
		{"a bad bip", ``, []string{"--bip=10.0.0.1"}, "--bip"},
		{"bridge and bip", ``, []string{"-b", "br0", "--bip=10.0.0.1/24"}, "mutually exclusive"},
		{"a bridge name in nft's language", ``, []string{"--bridge-name", `x";drop`}, "only letters"},
		{"bip6 without IPv6", ``, []string{"--bip6=fd05::1/64"}, "--bip6 needs --ipv6"},
		{"a subnet of the other family", ``, []string{"--ipv6", "--fixed-cidr-v6=10.0.0.0/24"}, "--fixed-cidr-v6 10.0.0.0/24 is of the other family"},
		{"IPv6 as bip", ``, []string{"--bip=fd05::1/64"}, "--bip fd05::1/64 is of the other family"},
		{"bridge and bip6", ``, []string{"-b", "br0", "--ipv6", "--bip6=fd05::1/64"}, "--bridge and --bip6 are mutually exclusive"},
		{"an MTU too small for IPv6", ``, []string{"--ipv6", "--mtu=1000"}, "IPv6 needs 1280"},
		{"an option of another driver", `{"default-network-opts": {"overlay": {"a": "b"}}}`, nil, `network driver "overlay" is not here`},
		{"an option nobody knows", ``, []string{"--default-network-opt=bridge=com.example=1"}, "com.example"},
		{"an option without value", ``, []string{"--default-network-opt=bridge=x"}, "DRIVER=KEY=VALUE"},
		{"a pool that cannot be cut", ``, []string{"--default-address-pool=base=10.0.0.0/24,size=16"}, "cannot be cut"},
		{"a pool without base", ``, []string{"--default-address-pool=size=16"}, "no base"},
		{"too many sandboxes kept ready", ``, []string{"--spare-sandboxes=65"}, "want 0 to 64"},
		{"a bad MTU", ``, []string{"--mtu=12"}, "68 to 65535"},
		{"a bad address", ``, []string{"--ip=host"}, "--ip"},
		{"a name server by name", ``, []string{"--dns=ns.example"}, `--dns "ns.example"`},
		{"the resolver itself", `{"dns": ["127.0.0.11"]}`, nil, "cannot ask itself"},
		{"no number of dots", `{"dns-opts": ["ndots:many"]}`, nil, "invalid number for ndots"},
		{"two options in one", ``, []string{"--dns-opt", "a b"}, "not one option"},
		{"no domain", ``, []string{"--dns-search", "a b"}, "not a domain"},
		{"options that disagree", `{"dns-opts": ["ndots:1"]}`, []string{"--dns-opt=ndots:2"}, "dns-opts: (from flag"},
	} {
		cfg, err := parse(t, c.file, c.args...)
		if err == nil {
			_, err = cfg.network()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want one saying %q", c.name, err, c.says)
		}
	}
}

// TestSettingsAreSaved: what a daemon notes is a configuration file that gives the
// same settings, and goes with the flags that name the roots.
func TestSettingsAreSaved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if path := savedSettings(dir); path != "" {
		t.Errorf("saved before anything was: %s", path)
	}
	cfg, err := parse(t, `{"default-address-pools": [{"base": "10.20.0.0/16", "size": 24}]}`,
		"--exec-root", dir, "--bridge-name", "other0", "--containerd", "/run/c.sock", "--live-restore=false")
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.save(); err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(savedSettings(dir))
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(t, string(saved), "--exec-root", dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg, again) {
		t.Errorf("saved %+v\nread  %+v", cfg, again)
	}
}

// TestNotedSettings: what a daemon noted is what its teardown goes by, but for flags.
func TestNotedSettings(t *testing.T) {
	t.Parallel()
	was := defaults()
	was.ExecRoot, was.BridgeName, was.MTU = t.TempDir(), "second0", 1400
	if err := was.save(); err != nil {
		t.Fatal(err)
	}
	now := defaults()
	flags := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
	now.register(flags)
	if err := flags.Parse([]string{"--bridge-name", "third0"}); err != nil {
		t.Fatal(err)
	}
	if _, err := now.merge(savedSettings(was.ExecRoot), true, flags); err != nil || now.BridgeName != "third0" || now.MTU != 1400 {
		t.Errorf("bridge %s, MTU %d, %v; want the flag's and the noted one", now.BridgeName, now.MTU, err)
	}
}

// TestDamagedSettings: a teardown goes by the copy of what the daemon noted, and by no
// guess where that is damaged as well.
func TestDamagedSettings(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"torn": `{"exec-root": "/r`, "empty": "", "null": "null", "nothing": "{}", "garbage": "\xff\xfe"} {
		was := defaults()
		was.register(pflag.NewFlagSet("daemon", pflag.ContinueOnError))
		was.ExecRoot, was.BridgeName = t.TempDir(), "second0"
		if err := was.save(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(was.ExecRoot, settingsFile)
		flags := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
		now := defaults()
		now.register(flags)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := remembered(now, savedSettings(was.ExecRoot), flags); err != nil || got.BridgeName != "second0" {
			t.Errorf("%s: bridge %s, %v", name, got.BridgeName, err)
		}
		if err := os.WriteFile(path+".copy", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := remembered(now, savedSettings(was.ExecRoot), flags); err == nil || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("%s, and its copy: %v", name, err)
		}
		if err := was.save(); err != nil || savedSettings(was.ExecRoot) != path {
			t.Errorf("%s: it is not written again: %v", name, err)
		}
	}
}
