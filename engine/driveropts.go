package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/engine/oci"
	"github.com/fairlead/fairlead/internal/netoption"
	"github.com/fairlead/fairlead/network/spec"
)

// The options of an endpoint, by Docker's names, and our own, which networks have too.
const (
	optSysctls      = "com.docker.network.endpoint.sysctls"
	optInterface    = "com.docker.network.endpoint.ifname"
	optAntiSpoofing = spec.OptAntiSpoofing
)

// anyInterface stands in a sysctl for the endpoint's interface, whose name is not
// known before.
const anyInterface = "IFNAME"

// driverOptions reads an endpoint's options into the request. One that is not known is
// refused.
func driverOptions(req *spec.EndpointRequest, opts map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		var err error
		switch key {
		case optInterface:
			req.Interface = opts[key]
			err = checkInterface(req.Interface)
		case optSysctls:
			req.Sysctls, err = interfaceSysctls(opts[key])
		case optAntiSpoofing:
			req.Spoofing, err = spoofing(opts[key])
		default:
			err = fmt.Errorf("unknown driver option %q: %s", key, netoption.Unknown(key, netoption.Endpoint))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckEndpointOption refuses an option that no endpoint has, and a value that it cannot
// have.
func CheckEndpointOption(key, val string) error {
	return driverOptions(&spec.EndpointRequest{}, map[string]string{key: val})
}

// spoofing is the contrary of what the option says.
func spoofing(val string) (*bool, error) {
	guarded, err := strconv.ParseBool(val)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is neither true nor false", optAntiSpoofing, val)
	}
	allowed := !guarded
	return &allowed, nil
}

// checkInterface keeps to what the kernel takes for a name (dev_valid_name in
// net/core/dev.c: at most 15 bytes, no slash, colon or space).
func checkInterface(name string) error {
	if name == "" || len(name) > 15 || name[0] == '-' || name == "." || name == ".." || name == "lo" || name == "all" || name == "default" ||
		strings.ContainsAny(name, "/:%*\"'`$;&|<>(){}[]#\\,") || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("%s: %q is not a name for an interface: want 1 to 15 printable bytes of ASCII without spaces, quotes, brackets, slash, colon, percent or a hyphen before", optInterface, name)
	}
	return nil
}

// interfaceSysctls reads net.X.Y.IFNAME.Z=V,….
func interfaceSysctls(text string) (map[string]string, error) {
	out := make(map[string]string)
	for field := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(strings.Trim(field, " "), "=")
		if !found || value == "" {
			return nil, fmt.Errorf("%s: %q is not KEY=VALUE", optSysctls, field)
		}
		if err := oci.CheckSysctl(key, value); err != nil {
			return nil, fmt.Errorf("%s: %w", optSysctls, err)
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
