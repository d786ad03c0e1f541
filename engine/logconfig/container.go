package logconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"text/template"
	"time"
	"unicode"

	"github.com/containerd/errdefs"
)

// Container is what a tag's template can say of a container. The names of its
// fields and methods are Docker's, which templates use.
type Container struct {
	ContainerID, ContainerName           string
	ContainerEntrypoint                  string
	ContainerArgs                        []string
	ContainerImageID, ContainerImageName string
	ContainerCreated                     time.Time
	ContainerEnv                         []string
	ContainerLabels                      map[string]string
	LogPath, DaemonName                  string
	Config                               map[string]string
}

// short is the beginning of an ID, without the kind of digest.
func short(id string) string {
	_, hex, found := strings.Cut(id, ":")
	if !found {
		hex = id
	}
	return hex[:min(len(hex), 12)]
}

// ID is the container's, 12 digits of it.
func (c Container) ID() string { return short(c.ContainerID) }

// FullID is all of it.
func (c Container) FullID() string { return c.ContainerID }

// Name is the container's name.
func (c Container) Name() string { return strings.TrimPrefix(c.ContainerName, "/") }

// ImageID is 12 digits of the image's ID.
func (c Container) ImageID() string { return short(c.ContainerImageID) }

// ImageFullID is all of it.
func (c Container) ImageFullID() string { return c.ContainerImageID }

// ImageName is what the image was called when the container was made of it.
func (c Container) ImageName() string { return c.ContainerImageName }

// Command is the command line.
func (c Container) Command() string {
	return strings.Join(append([]string{c.ContainerEntrypoint}, c.ContainerArgs...), " ")
}

// Hostname is the host's name.
func (c Container) Hostname() (string, error) { return os.Hostname() }

// functions are those of Docker's templates.
var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	},
	"split": strings.Split,
	"join":  strings.Join,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string {
		before := ' '
		return strings.Map(func(r rune) rune {
			defer func() { before = r }()
			if unicode.IsLetter(before) || unicode.IsDigit(before) || before == '_' || before == '\'' {
				return r
			}
			return unicode.ToTitle(r)
		}, s)
	},
	"pad": func(s string, before, after int) string {
		if s == "" || before < 0 || after < 0 || before > 1000 || after > 1000 {
			return s
		}
		return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
	},
	"truncate": func(s string, n int) string {
		if n < 0 || len(s) < n {
			return s
		}
		return s[:n]
	},
}

// tag is what the template of the option makes of the container.
func (o *options) tag(about Container, otherwise string) string {
	text := o.values["tag"]
	if text == "" {
		text = otherwise
	}
	if !strings.Contains(text, "{{") {
		return text
	}
	about.Config = o.values
	t, err := template.New("log-tag").Funcs(functions).Parse(text)
	var out bytes.Buffer
	if err == nil {
		err = t.Execute(&out, about)
	}
	if err != nil {
		o.fail("--log-opt tag: %s", err)
	}
	return out.String()
}

// attributes are the labels and variables of the container that were asked for.
func (o *options) attributes(about Container) map[string]string {
	out := make(map[string]string)
	env := make(map[string]string)
	for _, kv := range about.ContainerEnv {
		if key, value, found := strings.Cut(kv, "="); found {
			env[key] = value
		}
	}
	for _, from := range []struct {
		option string
		values map[string]string
	}{{"labels", about.ContainerLabels}, {"env", env}} {
		for key := range strings.SplitSeq(o.values[from.option], ",") {
			if value, found := from.values[key]; found {
				out[key] = value
			}
		}
		pattern := o.values[from.option+"-regex"]
		if pattern == "" {
			continue
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			o.fail("--log-opt %s-regex: %s", from.option, err)
			continue
		}
		for key, value := range from.values {
			if re.MatchString(key) {
				out[key] = value
			}
		}
	}
	return out
}

// errNoJournal is Docker's, at the start of a container.
var errNoJournal = fmt.Errorf("failed to initialize logging driver: journald is not enabled on this host: %w", errdefs.ErrInternal)

// Ready says whether the driver can be written to; the journal's socket is at
// the path.
func Ready(driver, socket string) error {
	if driver != Journald {
		return nil
	}
	if _, err := os.Stat(socket); err != nil {
		return fmt.Errorf("%s is not there: %w", socket, errNoJournal)
	}
	return nil
}
