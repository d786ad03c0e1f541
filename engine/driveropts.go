package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The options of an endpoint, by Docker's names.
const (
	optSysctls   = "com.docker.network.endpoint.sysctls"
	optInterface = "com.docker.network.endpoint.ifname"
)

// anyInterface stands in a sysctl for the endpoint's interface, whose name is not
// known before.
const anyInterface = "IFNAME"

// driverOptions reads an endpoint's options. One that is not known is refused.
func driverOptions(opts map[string]string) (ifname string, sysctls map[string]string, err error) {
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		switch key {
		case optInterface:
			ifname = opts[key]
			err = checkInterface(ifname)
		case optSysctls:
			sysctls, err = interfaceSysctls(opts[key])
		default:
			err = fmt.Errorf("unknown driver option %q: there are %s and %s", key, optInterface, optSysctls)
		}
		if err != nil {
			return "", nil, err
		}
	}
	return ifname, sysctls, nil
}

// checkInterface keeps to what the kernel takes for a name (dev_valid_name in
// net/core/dev.c: at most 15 bytes, no slash, colon or space).
func checkInterface(name string) error {
	if name == "" || len(name) > 15 || name == "." || name == ".." || name == "lo" || name == "all" || name == "default" ||
		strings.ContainsAny(name, "/: \t\n%") {
		return fmt.Errorf("%s: %q is not a name for an interface: want 1 to 15 bytes without slash, colon, percent or space", optInterface, name)
	}
	return nil
}

// interfaceSysctls reads net.X.Y.IFNAME.Z=V,….
func interfaceSysctls(text string) (map[string]string, error) {
	out := make(map[string]string)
	for field := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(field), "=")
		if !found || value == "" {
			return nil, fmt.Errorf("%s: %q is not KEY=VALUE", optSysctls, field)
		}
		// Clients write the placeholder in small letters too.
		part := strings.SplitN(key, ".", 5)
		if len(part) != 5 || part[0] != "net" || !slices.Contains([]string{"ipv4", "ipv6", "mpls"}, part[1]) ||
			(part[2] != "conf" && part[2] != "neigh") || !strings.EqualFold(part[3], anyInterface) || part[4] == "" || strings.ContainsAny(part[4], "/.") {
			return nil, fmt.Errorf("unrecognised network interface sysctl '%s'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', "+
				"'X' must be 'ipv4', 'ipv6' or 'mpls' and 'Y' must be 'conf' or 'neigh'", field)
		}
		part[3] = anyInterface
		key = strings.Join(part, ".")
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("%s: %s is there twice", optSysctls, key)
		}
		out[key] = value
	}
	if len(out) == 0 {
		return nil, errors.New(optSysctls + " is empty")
	}
	return out, nil
}
