package engine

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/events"
	"github.com/fairlead/fairlead/engine/logconfig"
	"github.com/fairlead/fairlead/engine/mounts"
	"github.com/fairlead/fairlead/engine/oci"
)

// FuzzContainer: whatever is asked for a container, each of those who decide on it
// says yes, or what is wrong with it; and what all agreed to can be specified.
func FuzzContainer(f *testing.F) {
	for _, seed := range []string{
		`{}`,
		`{"Image":"demo","Cmd":["sh"],"Env":["A=b","C"],"User":"1:2","WorkingDir":"/x","Hostname":"h","StopSignal":"9","Volumes":{"/v":{}}}`,
		`{"ExposedPorts":{"80/tcp":{},"1-3/udp":{}},"HostConfig":{"PublishAllPorts":true,"PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":"8000-8010"},{}]}}}`,
		`{"HostConfig":{"Binds":["/a:/b:ro,z","v:/c:nocopy","/d"],"Tmpfs":{"/t":"size=1m,mode=1777"},"VolumesFrom":["x:ro"],"Mounts":[{"Type":"bind","Source":"/a","Target":"/e","BindOptions":{"Propagation":"rshared"}},{"Type":"volume","Target":"/f","VolumeOptions":{"Subpath":"../x"}},{"Type":"tmpfs","Target":"/g","TmpfsOptions":{"SizeBytes":1,"Mode":511}}]}}`,
		`{"HostConfig":{"Memory":6291456,"MemorySwap":-1,"NanoCpus":1500000000,"CpusetCpus":"0-1","PidsLimit":5,"BlkioWeight":10,"OomScoreAdj":-5,"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"CpuPeriod":1,"CpuQuota":-1}}`,
		`{"HostConfig":{"CapAdd":["ALL"],"CapDrop":["NET_RAW"],"SecurityOpt":["no-new-privileges","seccomp=unconfined","label=disable","systempaths=unconfined"],"Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/x","CgroupPermissions":"rw"}],"DeviceCgroupRules":["c 1:3 rwm"],"Privileged":true}}`,
		`{"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"1k","max-file":"3","tag":"{{.Name}}"}},"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"IpcMode":"container:x","PidMode":"host","UTSMode":"host","CgroupnsMode":"private","Sysctls":{"net.ipv4.ip_forward":"1"}}}`,
		`{"Healthcheck":{"Test":["CMD-SHELL","x"],"Interval":1,"Retries":-1},"HostConfig":{"ExtraHosts":["a:host-gateway","b=::1","c"],"Dns":["1.1.1.1"],"GroupAdd":["x"]}}`,
	} {
		f.Add([]byte(seed))
	}
	e := &Engine{log: slog.New(slog.DiscardHandler), cfg: configuration{Config: Config{Network: newFakeNetwork("/nonexistent")}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req struct {
			container.Config
			HostConfig container.HostConfig
		}
		if json.Unmarshal(body, &req) != nil {
			return
		}
		config, host := &req.Config, &req.HostConfig
		if refuse(config, host) != nil {
			return
		}
		host.LogConfig = logconfig.Merge(host.LogConfig, container.LogConfig{})
		if logconfig.Check(host.LogConfig) != nil {
			return
		}
		list, err := mounts.Parse(config, host, nil)
		if err != nil {
			return
		}
		ports, err := publish(config, host)
		if err != nil {
			return
		}
		for _, p := range ports {
			if p.Port == 0 || p.HostPortEnd < p.HostPort {
				t.Errorf("%s: port %+v", body, p)
			}
		}
		rec := Record{ID: newID(), Config: config, HostConfig: host}
		if _, err := e.extraHosts(rec); err != nil {
			return
		}
		if _, err := mounts.Spec(list, true); err != nil {
			return
		}
		if s, err := oci.Spec(oci.Container{ID: rec.ID, Config: config, HostConfig: host, Args: rec.args()}); err == nil && s.Process == nil {
			t.Errorf("%s: no process", body)
		}
	})
}

// FuzzFilters: every filter is a test, or refused as a bad request.
func FuzzFilters(f *testing.F) {
	for _, seed := range [][3]string{
		{"name", "^/web$", "x"},
		{"publish", "80-90/udp", ""},
		{"expose", "0", ""},
		{"label", "a=b", "c"},
		{"status", "running", "x"},
		{"health", "none", ""},
		{"exited", "-1", ""},
		{"volume", "/", ""},
		{"network", "b", ""},
		{"is-task", "TRUE", ""},
		{"until", "1.5", ""},
		{"label!", "=", ""},
		{"dangling", "1", ""},
		{"type", "custom", ""},
		{"scope", "local", ""},
		{"event", "exec_create", "die"},
		{"image", "a:b@c", "a/b:c"},
		{"container", "", ""},
		{"until", "24h", ""},
		{"until", "2020-01-02T03", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	e := &Engine{log: slog.New(slog.DiscardHandler), events: events.New(), cfg: configuration{Config: Config{Network: newFakeNetwork("/nonexistent")}}}
	e.registry.init()
	rec := Record{
		ID: newID(), Name: "web", Config: &container.Config{Labels: map[string]string{"a": "b"}}, HostConfig: &container.HostConfig{NetworkMode: "bridge"},
		Mounts: []container.MountPoint{{Name: "v", Destination: "/v"}},
	}
	message := apievents.Message{Type: "container", Action: "exec_create: x", Actor: apievents.Actor{ID: rec.ID, Attributes: map[string]string{"image": "a/b:c"}}}
	bad := func(t *testing.T, err error) {
		if err != nil && !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) {
			t.Errorf("%v is no bad request", err)
		}
	}
	f.Fuzz(func(t *testing.T, key, one, two string) {
		filters := map[string][]string{key: {one, two}}
		if key != "ancestor" { // images are containerd's
			match, err := e.listFilter(t.Context(), ListOptions{Filters: filters})
			if bad(t, err); err == nil {
				match(rec)
			}
		}
		wanted, err := eventFilter(filters)
		if bad(t, err); err == nil {
			wanted(message)
		}
		_, err = e.NetworkList(t.Context(), filters)
		bad(t, err)
		_, err = pruneFilter(filters, time.Now())
		bad(t, err)
		_, _, err = EventsOptions{Since: one, Until: two}.span(time.Now())
		bad(t, err)
	})
}
