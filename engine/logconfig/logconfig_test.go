package logconfig

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/streams"
)

var web = Container{
	ContainerID: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", ContainerName: "/web",
	ContainerEntrypoint: "httpd", ContainerArgs: []string{"-f"},
	ContainerImageID: "sha256:fedcba98765432100000", ContainerImageName: "demo:1",
	ContainerEnv: []string{"A=1", "APP_MODE=prod", "B"}, ContainerLabels: map[string]string{"role": "front", "com.example.x": "y"},
}

func TestLogging(t *testing.T) {
	t.Parallel()
	journal := map[string]string{
		"CONTAINER_ID": "0123456789ab", "CONTAINER_ID_FULL": web.ContainerID, "CONTAINER_NAME": "web",
		"CONTAINER_TAG": "0123456789ab", "SYSLOG_IDENTIFIER": "0123456789ab", "IMAGE_NAME": "demo:1",
	}
	with := func(more map[string]string) map[string]string {
		out := maps.Clone(journal)
		maps.Copy(out, more)
		return out
	}
	for text, want := range map[string]streams.Logging{
		"json-file":              {},
		"none anything=goes":     {},
		"json-file max-size=10m": {MaxSize: 10_000_000, MaxFiles: 1},
		"json-file max-size=1k max-file=3 compress=true":      {MaxSize: 1000, MaxFiles: 3, Compress: true},
		"json-file max-file=3":                                {},
		"json-file mode=blocking":                             {},
		"json-file mode=non-blocking":                         {Buffer: 1 << 20},
		"json-file mode=non-blocking max-buffer-size=4m":      {Buffer: 4 << 20},
		"json-file labels=role,none env=A,B,C":                {Attrs: map[string]string{"role": "front", "A": "1"}},
		"json-file labels-regex=^com\\. env-regex=^APP_":      {Attrs: map[string]string{"com.example.x": "y", "APP_MODE": "prod"}},
		"json-file tag={{.Name}}/{{.ImageID}}/{{.ID}}":        {Attrs: map[string]string{"tag": "web/fedcba987654/0123456789ab"}},
		"json-file tag={{upper\u00a0.Name}}{{.Command|json}}": {Attrs: map[string]string{"tag": `WEB"httpd -f"`}},
		"journald": {Journal: journal},
		"journald tag={{.Name}} labels=com.example.x": {Journal: with(map[string]string{"CONTAINER_TAG": "web", "SYSLOG_IDENTIFIER": "web", "COM_EXAMPLE_X": "y"})},
		"journald mode=non-blocking":                  {Journal: journal, Buffer: 1 << 20},
		"local":                                       {MaxSize: 20_000_000, MaxFiles: 5, Compress: true},
		"local max-size=1m compress=false tag=x":      {MaxSize: 1_000_000, MaxFiles: 5, Attrs: map[string]string{"tag": "x"}},
		"local max-file=1":                            {MaxSize: 20_000_000, MaxFiles: 1},
	} {
		got, err := Logging(parse(text), web)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
}

// parse reads DRIVER KEY=VALUE…; a space within a value is one that does not break.
func parse(text string) container.LogConfig {
	words := strings.Split(text, " ")
	c := container.LogConfig{Type: words[0]}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if c.Config == nil {
			c.Config = make(map[string]string)
		}
		c.Config[key] = strings.ReplaceAll(value, "\u00a0", " ")
	}
	return c
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"fluentd":                                       "no log driver named 'fluentd' is registered",
		"json-file max-szie=1":                          "unknown log opt 'max-szie' for json-file log driver",
		"journald max-size=1m":                          "unknown log opt 'max-size' for journald log driver",
		"json-file max-size=big":                        "max-size",
		"json-file max-size=0":                          "max-size must be a positive number",
		"json-file max-size=-1":                         "max-size",
		"json-file max-file=0":                          "max-file cannot be less than 1",
		"json-file max-file=x":                          "max-file",
		"json-file compress=maybe":                      "compress",
		"json-file compress=true max-size=1m":           "compress cannot be true when max-file is less than 2",
		"json-file mode=sometimes":                      "logging mode not supported: sometimes",
		"json-file max-buffer-size=1m":                  "only supported with 'mode=non-blocking'",
		"json-file mode=non-blocking max-buffer-size=x": "max-buffer-size",
		"json-file mode=non-blocking max-buffer-size=0": "max-buffer-size",
		"json-file tag={{.Nothing}}":                    "tag",
		"json-file tag={{":                              "tag",
		"json-file labels-regex=(":                      "labels-regex",
		"local max-szie=1":                              "unknown log opt 'max-szie' for local log driver",
		"local max-file=1 compress=true":                "compress cannot be true",
		"journald env-regex=[":                          "env-regex",
	} {
		if err := Check(parse(text)); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	daemon := container.LogConfig{Type: Journald, Config: map[string]string{"tag": "d", "labels": "l"}}
	for _, tt := range []struct {
		name            string
		c, daemon, want string
	}{
		{"nothing said", "", "", "json-file"},
		{"the daemon's", "", "journald tag=d labels=l", "journald tag=d labels=l"},
		{"the daemon's driver, options of its own", " tag=c", "journald tag=d labels=l", "journald tag=c labels=l"},
		{"another driver", "json-file max-size=1m", "journald tag=d labels=l", "json-file max-size=1m"},
		{"the daemon's options of the default driver", "", " max-size=2m", "json-file max-size=2m"},
	} {
		got, want := Merge(parse(tt.c), parse(tt.daemon)), parse(tt.want)
		if got.Type != want.Type || !maps.Equal(got.Config, want.Config) {
			t.Errorf("%s: %v, want %v", tt.name, got, want)
		}
	}
	if Merge(container.LogConfig{}, daemon); len(daemon.Config) != 2 {
		t.Error("the daemon's own was changed")
	}
	if c := Merge(container.LogConfig{Config: map[string]string{"tag": "c"}}, daemon); c.Config["tag"] != "c" || daemon.Config["tag"] != "d" {
		t.Errorf("%v %v", c, daemon)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	if err := Ready(JSON, "/nonesuch"); err != nil {
		t.Error(err)
	}
	if err := Ready(Journald, "/nonesuch"); err == nil || !strings.Contains(err.Error(), "journald is not enabled on this host") {
		t.Error(err)
	}
}
