package image

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// Change applies instructions as in a Dockerfile to an image's configuration:
// CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME
// and WORKDIR.
func Change(c dockerspec.DockerOCIImageConfig, changes []string) (dockerspec.DockerOCIImageConfig, error) {
	for _, line := range changes {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		if rest == "" {
			return c, fmt.Errorf("change %q has no argument: %w", line, errdefs.ErrInvalidArgument)
		}
		if err := change(&c, strings.ToUpper(word), rest); err != nil {
			return c, fmt.Errorf("change %q: %w: %w", line, err, errdefs.ErrInvalidArgument)
		}
	}
	return c, nil
}

func change(c *dockerspec.DockerOCIImageConfig, word, rest string) (err error) {
	switch word {
	case "CMD":
		c.Cmd = command(rest)
	case "ENTRYPOINT":
		c.Entrypoint = command(rest)
	case "ENV":
		return pairs(rest, func(k, v string) { c.Env = append(without(c.Env, k), k+"="+v) })
	case "LABEL":
		return pairs(rest, func(k, v string) { set(&c.Labels, k, v) })
	case "EXPOSE":
		for _, p := range strings.Fields(rest) {
			port, err := exposed(p)
			if err != nil {
				return err
			}
			set(&c.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		for _, v := range list(rest) {
			set(&c.Volumes, v, struct{}{})
		}
	case "USER":
		c.User = rest
	case "WORKDIR":
		c.WorkingDir = rest
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "HEALTHCHECK":
		c.Healthcheck, err = healthcheck(rest)
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, rest)
	default:
		return fmt.Errorf("%s is not a valid change command", word)
	}
	return err
}

func set[V any](m *map[string]V, k string, v V) {
	if *m == nil {
		*m = make(map[string]V)
	}
	(*m)[k] = v
}

func without(env []string, key string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, key+"=") {
			out = append(out, kv)
		}
	}
	return out
}

// command reads the JSON form, or gives the words to a shell.
func command(s string) []string {
	var words []string
	if json.Unmarshal([]byte(s), &words) == nil {
		return words
	}
	return []string{"/bin/sh", "-c", s}
}

func list(s string) []string {
	var words []string
	if json.Unmarshal([]byte(s), &words) == nil {
		return words
	}
	return strings.Fields(s)
}

// pairs reads KEY=VALUE words, quoted where they have spaces, or KEY VALUE.
func pairs(s string, set func(k, v string)) error {
	words, err := split(s)
	if err != nil {
		return err
	}
	if !strings.Contains(words[0], "=") {
		k, v, ok := strings.Cut(s, " ")
		if !ok {
			return fmt.Errorf("%s must have a value", k)
		}
		set(k, strings.TrimSpace(v))
		return nil
	}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return fmt.Errorf("%q is not KEY=VALUE", w)
		}
		set(k, v)
	}
	return nil
}

// split cuts at spaces outside quotes and takes the quotes off.
func split(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, open := rune(0), false
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, open = r, true
		case r == ' ' || r == '\t':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}

func exposed(s string) (string, error) {
	num, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	port, err := strconv.ParseUint(num, 10, 16)
	if err != nil || port == 0 || (proto != "tcp" && proto != "udp" && proto != "sctp") {
		return "", fmt.Errorf("invalid port %q", s)
	}
	return num + "/" + proto, nil
}
