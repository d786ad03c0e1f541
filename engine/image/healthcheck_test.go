package image

import (
	"reflect"
	"strings"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

func TestHealthcheckChange(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]dockerspec.HealthcheckConfig{
		"none":               {Test: []string{"NONE"}},
		"CMD curl -f x || y": {Test: []string{"CMD-SHELL", "curl -f x || y"}},
		`--interval=5s --timeout=100ms --start-period=1m --start-interval=2s --retries=4 CMD ["a", "b c"]`: {
			Test: []string{"CMD", "a", "b c"}, Interval: 5 * time.Second, Timeout: 100 * time.Millisecond,
			StartPeriod: time.Minute, StartInterval: 2 * time.Second, Retries: 4,
		},
	} {
		got, err := Change(dockerspec.DockerOCIImageConfig{}, []string{"HEALTHCHECK " + line})
		if err != nil || !reflect.DeepEqual(*got.Healthcheck, want) {
			t.Errorf("%s: %+v, %v", line, got.Healthcheck, err)
		}
	}
	for line, text := range map[string]string{
		"curl x": "unknown type", "CMD": "missing command", "--interval=x CMD y": "duration", "--every=5s CMD y": "--every",
	} {
		if _, err := Change(dockerspec.DockerOCIImageConfig{}, []string{"HEALTHCHECK " + line}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
