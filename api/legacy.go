package api

import (
	"net/netip"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
)

// legacyNetworkSettings are a container's network settings as clients below 1.52
// read them: the endpoint on the default network once more, at the top.
type legacyNetworkSettings struct {
	*container.NetworkSettings
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
}

// legacyInspect is a container as clients below 1.52 read it.
type legacyInspect struct {
	container.InspectResponse
	NetworkSettings *legacyNetworkSettings
}

// inspectFor gives a container the fields of an API version.
func inspectFor(version minor, got container.InspectResponse) any {
	if version >= 52 || got.NetworkSettings == nil {
		return got
	}
	settings := &legacyNetworkSettings{NetworkSettings: got.NetworkSettings}
	if e := got.NetworkSettings.Networks[network.NetworkBridge]; e != nil {
		settings.EndpointID = e.EndpointID
		settings.Gateway = addrText(e.Gateway)
		settings.IPAddress = addrText(e.IPAddress)
		settings.IPPrefixLen = e.IPPrefixLen
		settings.IPv6Gateway = addrText(e.IPv6Gateway)
		settings.GlobalIPv6Address = addrText(e.GlobalIPv6Address)
		settings.GlobalIPv6PrefixLen = e.GlobalIPv6PrefixLen
		settings.MacAddress = e.MacAddress.String()
	}
	return legacyInspect{InspectResponse: got, NetworkSettings: settings}
}

// summariesFor gives a list of containers the fields of an API version.
func summariesFor(version minor, list []container.Summary) []container.Summary {
	if list == nil {
		return []container.Summary{}
	}
	for i := range list {
		if version < 52 {
			list[i].Health = nil
		}
		if version < 46 {
			list[i].HostConfig.Annotations = nil
		}
		if version < 48 {
			list[i].ImageManifestDescriptor = nil
		}
	}
	return list
}

// addrText is an address, or "" where there is none.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// legacySummary and legacyImage have the size that clients below 1.44 read.
type legacySummary struct {
	image.Summary
	VirtualSize int64
}

type legacyImage struct {
	image.InspectResponse
	VirtualSize int64
}

// imagesFor and imageFor give images the fields of an API version.
func imagesFor(version minor, list []image.Summary) any {
	if version >= 44 {
		if list == nil {
			return []image.Summary{}
		}
		return list
	}
	out := make([]legacySummary, len(list))
	for i, item := range list {
		out[i] = legacySummary{item, item.Size}
	}
	return out
}

func imageFor(version minor, got image.InspectResponse) any {
	if version >= 44 {
		return got
	}
	return legacyImage{got, got.Size}
}
