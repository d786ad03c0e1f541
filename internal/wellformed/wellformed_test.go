package wellformed_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/internal/wellformed"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for body, at := range map[string]string{
		`{"HostConfig":{"BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":1}],"Ulimits":null,"LogConfig":null,"Dns":["1.1.1.1"]},"NetworkingConfig":{"EndpointsConfig":{"a":null}}}`: "",
		`{"HostConfig":{"BlkioDeviceReadBps":[{"Path":"/dev/sda"},null]}}`: "HostConfig.BlkioDeviceReadBps[1]: it is null",
		`{"HostConfig":{"Ulimits":[null]}}`:                                "HostConfig.Ulimits[0]: it is null",
		`{"Env":["A=b\u0000c"]}`:                                           `Env[0]: "A=b\x00c" has a NUL`,
		`{"Volumes":{"/a\u0000b":{}}}`:                                     `Volumes: "/a\x00b" has a NUL`,
		`{"HostConfig":{"Tmpfs":{"/a":"\u0000"}}}`:                         `HostConfig.Tmpfs./a: "\x00" has a NUL`,
		`{"NetworkingConfig":{"EndpointsConfig":{"a":{"IPAMConfig":{},"DriverOpts":{"k":"\u0000"}}}}}`: "NetworkingConfig.EndpointsConfig.a.DriverOpts.k",
	} {
		var req container.CreateRequest
		if err := json.Unmarshal([]byte(body), &req); err != nil {
			t.Fatal(err)
		}
		switch err := wellformed.Check(&req); {
		case at == "" && err != nil:
			t.Errorf("%s: %v", body, err)
		case at != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), at)):
			t.Errorf("%s: %v, want %s", body, err, at)
		}
	}
}
