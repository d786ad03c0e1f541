package api

import (
	"encoding/json"
	"slices"
)

// The fields of each answer that come and go with the API's version.

var inspectFields = []field{
	{path: "Config.OnBuild", to: 51, missing: jsonNull},
	{path: "GraphDriver", to: 51},
	{path: "HostConfig.Annotations", from: 43},
	{path: "HostConfig.CgroupnsMode", from: 40},
	{path: "HostConfig.KernelMemory", to: 41, missing: jsonZero},
	{path: "HostConfig.KernelMemoryTCP", to: 51, missing: jsonZero},
	{path: "ImageManifestDescriptor", from: 48},
	{path: "NetworkSettings.Networks.*.DNSNames", from: 44},
	{path: "NetworkSettings.Networks.*.GwPriority", from: 48},
	{path: "Storage", from: 52},
}

var listFields = []field{
	{path: "*.NetworkSettings.Networks.*.DNSNames", from: 44},
	{path: "*.NetworkSettings.Networks.*.GwPriority", from: 48},
}

var infoFields = []field{
	// Old clients warn where frames pass bridges unfiltered: none do.
	{path: "BridgeNfIp6tables", to: 49, missing: jsonTrue},
	{path: "BridgeNfIptables", to: 49, missing: jsonTrue},
	{path: "CDISpecDirs", from: 44},
	{path: "Containerd", from: 46},
	{path: "DiscoveredDevices", from: 50},
	{path: "FirewallBackend", from: 49},
	{path: "KernelMemory", to: 41, missing: jsonFalse},
	{path: "KernelMemoryTCP", to: 51, missing: jsonFalse},
	{path: "NRI", from: 53},
	{path: "RegistryConfig.AllowNondistributableArtifactsCIDRs", to: 48, missing: jsonList},
	{path: "RegistryConfig.AllowNondistributableArtifactsHostnames", to: 48, missing: jsonList},
	{path: "Runtimes.*.status", from: 44},
}

var networkFields = []field{
	{path: "EnableIPv4", from: 48},
	{path: "Status", from: 52},
}

var networksFields = []field{
	{path: "*.Containers", to: 51},
	{path: "*.EnableIPv4", from: 48},
	{path: "*.Status", from: 99},
}

// imageFields are those of an image. Its configuration used to be a container's, and
// the container that it was made from was shown too.
var imageFields = slices.Concat([]field{
	{path: "Author", to: 51, kept: true, missing: jsonText},
	{path: "Comment", to: 51, kept: true, missing: jsonText},
	{path: "Container", to: 44, missing: jsonText},
	{path: "ContainerConfig", to: 44, missing: jsonObject},
	{path: "Descriptor", from: 48},
	{path: "DockerVersion", to: 51, kept: true, missing: jsonText},
	{path: "GraphDriver", to: 51, missing: json.RawMessage(`{"Data":null,"Name":"overlayfs"}`)},
	{path: "Identity", from: 53},
	{path: "Manifests", from: 48},
	{path: "Parent", to: 51, kept: true, missing: jsonText},
	{path: "Config", missing: jsonObject},
}, configFields("Config", 49, 51), configFields("ContainerConfig", 44, 44))

// configFields are those of a container's configuration in an image: some went for
// good after one version, others are left out where they are empty after another.
func configFields(path string, gone, empty minor) []field {
	var out []field
	add := func(to minor, kept bool, missing json.RawMessage, names ...string) {
		for _, name := range names {
			out = append(out, field{path: path + "." + name, to: to, kept: kept, missing: missing})
		}
	}
	add(gone, false, jsonText, "Hostname", "Domainname", "Image")
	add(gone, false, jsonFalse, "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce")
	add(empty, true, jsonText, "User", "WorkingDir")
	add(empty, true, jsonNull, "Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes")
	return out
}

var imagesFields = []field{
	{path: "*.Descriptor", from: 48},
	{path: "*.Manifests", from: 47},
}
