package api

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
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
	if version < 45 {
		aliasesFor44(&got)
	}
	if got.GraphDriver != nil {
		got.Storage = &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: got.GraphDriver.Name}}}
	}
	if version >= 52 || got.NetworkSettings == nil {
		return reshape(version, got, inspectFields)
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
	return reshape(version, legacyInspect{InspectResponse: got, NetworkSettings: settings}, inspectFields)
}

// aliasesFor44 adds the container's short ID and host name to its aliases on networks
// of the user's own: later they are among the DNS names alone.
func aliasesFor44(got *container.InspectResponse) {
	if got.NetworkSettings == nil || got.Config == nil || len(got.ID) < 12 {
		return
	}
	networks := maps.Clone(got.NetworkSettings.Networks)
	for name, e := range networks {
		if e == nil || !container.NetworkMode(name).IsUserDefined() {
			continue
		}
		e = e.Copy()
		for _, alias := range []string{got.ID[:12], got.Config.Hostname} {
			if alias != "" && !slices.Contains(e.Aliases, alias) {
				e.Aliases = append(e.Aliases, alias)
			}
		}
		networks[name] = e
	}
	settings := *got.NetworkSettings
	settings.Networks = networks
	got.NetworkSettings = &settings
}

// summariesFor gives a list of containers the fields of an API version.
func summariesFor(version minor, list []container.Summary) any {
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
	return reshape(version, list, listFields)
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
	if version < 51 {
		for i := range list {
			list[i].Containers = -1 // it was not counted
		}
	}
	if version >= 44 {
		if list == nil {
			return []image.Summary{}
		}
		return reshape(version, list, imagesFields)
	}
	out := make([]legacySummary, len(list))
	for i, item := range list {
		out[i] = legacySummary{item, item.Size}
	}
	return reshape(version, out, imagesFields)
}

func imageFor(version minor, got image.InspectResponse) any {
	if version >= 44 {
		return reshape(version, got, imageFields)
	}
	return reshape(version, legacyImage{got, got.Size}, imageFields)
}
