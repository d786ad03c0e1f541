package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// healthcheck reads what follows HEALTHCHECK in a Dockerfile: NONE, or options and
// CMD with the command, for the shell or in the JSON form.
func healthcheck(s string) (*dockerspec.HealthcheckConfig, error) {
	if strings.EqualFold(s, "NONE") {
		return &dockerspec.HealthcheckConfig{Test: []string{"NONE"}}, nil
	}
	out := &dockerspec.HealthcheckConfig{}
	durations := map[string]*time.Duration{
		"interval": &out.Interval, "timeout": &out.Timeout, "start-period": &out.StartPeriod, "start-interval": &out.StartInterval,
	}
	for strings.HasPrefix(s, "--") {
		word, rest, _ := strings.Cut(s, " ")
		key, value, _ := strings.Cut(word[len("--"):], "=")
		var err error
		if d, known := durations[key]; known {
			*d, err = time.ParseDuration(value)
		} else if key == "retries" {
			out.Retries, err = strconv.Atoi(value)
		} else {
			err = fmt.Errorf("unknown flag --%s of HEALTHCHECK", key)
		}
		if err != nil {
			return nil, err
		}
		s = strings.TrimSpace(rest)
	}
	word, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	if !strings.EqualFold(word, "CMD") {
		return nil, fmt.Errorf("unknown type %q in HEALTHCHECK (try CMD)", word)
	}
	if rest == "" {
		return nil, errors.New("missing command after HEALTHCHECK CMD")
	}
	var words []string
	if json.Unmarshal([]byte(rest), &words) == nil {
		out.Test = append([]string{"CMD"}, words...)
	} else {
		out.Test = []string{"CMD-SHELL", rest}
	}
	return out, nil
}
