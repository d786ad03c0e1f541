package apitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine"
)

// tagged is a reference in its short form, with a tag.
func tagged(ref string) string {
	ref = strings.TrimPrefix(ref, "docker.io/library/")
	if !strings.Contains(ref[strings.LastIndex(ref, "/")+1:], ":") {
		return ref + ":latest"
	}
	return ref
}

// findImage is called with the lock held.
func (e *Engine) findImage(ref string) (*image.InspectResponse, error) {
	for _, img := range e.images {
		if slices.Contains(img.RepoTags, tagged(ref)) || img.ID == ref || strings.HasPrefix(img.ID, "sha256:"+ref) {
			return img, nil
		}
	}
	return nil, missing("image", tagged(ref))
}

// ImageImport makes an image whose command is what a CMD change says.
func (e *Engine) ImageImport(_ context.Context, archive io.Reader, ref string, changes []string, message, _ string) (string, error) {
	body, err := io.ReadAll(archive)
	if err != nil {
		return "", err
	}
	if len(body) == 0 {
		return "", fmt.Errorf("the archive is empty: %w", errdefs.ErrInvalidArgument)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Imported = append(slices.Clone(changes), message)
	img := &image.InspectResponse{
		ID: "sha256:" + newID(), Size: int64(len(body)), Comment: message, Os: "linux",
		Created: time.Now().Format(time.RFC3339Nano), Config: &dockerspec.DockerOCIImageConfig{},
	}
	for _, change := range changes {
		if command, found := strings.CutPrefix(change, "CMD "); found {
			img.Config.Cmd = strings.Fields(command)
		}
	}
	if ref != "" {
		img.RepoTags = []string{tagged(ref)}
	}
	e.images = append(e.images, img)
	return img.ID, nil
}

// ImageLoad takes an archive whose first line names the image.
func (e *Engine) ImageLoad(ctx context.Context, request engine.LoadRequest) error {
	body, err := io.ReadAll(request.Archive)
	if err != nil {
		return err
	}
	request.Progress(jsonstream.Message{Status: fmt.Sprintf("read %d bytes", len(body))})
	name, _, found := strings.Cut(string(body), "\n")
	if !found {
		return errors.New("the archive has no manifest")
	}
	if _, err := e.ImageImport(ctx, strings.NewReader(string(body)), name, nil, "", ""); err != nil {
		return err
	}
	request.Progress(jsonstream.Message{Stream: "Loaded image: " + tagged(name) + "\n"})
	return nil
}

// ImageSave writes the names of the images, a line each.
func (e *Engine) ImageSave(_ context.Context, refs []string, _ string, to io.Writer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ref := range refs {
		if _, err := e.findImage(ref); err != nil {
			return err
		}
	}
	_, err := io.WriteString(to, strings.Join(refs, "\n")+"\n")
	return err
}

// ImageHistory has two steps for every image.
func (e *Engine) ImageHistory(_ context.Context, ref, _ string) ([]image.HistoryResponseItem, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	img, err := e.findImage(ref)
	if err != nil {
		return nil, err
	}
	return []image.HistoryResponseItem{
		{ID: img.ID, Tags: img.RepoTags, CreatedBy: "CMD sh", Comment: img.Comment, Created: time.Now().Unix()},
		{ID: "<missing>", CreatedBy: "ADD rootfs", Size: img.Size, Created: time.Now().Unix()},
	}, nil
}

// ImagePrune removes the images without a name.
func (e *Engine) ImagePrune(_ context.Context, filters map[string][]string) (image.PruneReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Pruned = append(e.Pruned, filters)
	var report image.PruneReport
	e.images = slices.DeleteFunc(e.images, func(img *image.InspectResponse) bool {
		if len(img.RepoTags) > 0 {
			return false
		}
		report.ImagesDeleted = append(report.ImagesDeleted, image.DeleteResponse{Deleted: img.ID})
		report.SpaceReclaimed += uint64(img.Size)
		return true
	})
	return report, nil
}

// ImageList lists all images, or those of a reference.
func (e *Engine) ImageList(_ context.Context, options engine.ImageListOptions) ([]image.Summary, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []image.Summary
	for _, img := range e.images {
		if refs := options.Filters["reference"]; refs != nil && !slices.ContainsFunc(refs, func(ref string) bool { return slices.Contains(img.RepoTags, tagged(ref)) }) {
			continue
		}
		out = append(out, image.Summary{ID: img.ID, RepoTags: slices.Clone(img.RepoTags), Size: img.Size, Created: time.Now().Unix(), Containers: -1})
	}
	return out, nil
}

// ImageInspect returns one image.
func (e *Engine) ImageInspect(_ context.Context, ref string, _ engine.ImageInspectOptions) (image.InspectResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	img, err := e.findImage(ref)
	if err != nil {
		return image.InspectResponse{}, err
	}
	got := *img
	got.RepoTags = slices.Clone(img.RepoTags)
	return got, nil
}

// ImageTag adds a name.
func (e *Engine) ImageTag(_ context.Context, ref, target string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	img, err := e.findImage(ref)
	if err != nil {
		return err
	}
	img.RepoTags = append(img.RepoTags, tagged(target))
	return nil
}

// ImageRemove takes a name away, and the image with its last.
func (e *Engine) ImageRemove(_ context.Context, ref string, _ bool) ([]image.DeleteResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	img, err := e.findImage(ref)
	if err != nil {
		return nil, err
	}
	img.RepoTags = slices.DeleteFunc(img.RepoTags, func(tag string) bool { return tag == tagged(ref) })
	out := []image.DeleteResponse{{Untagged: tagged(ref)}}
	if len(img.RepoTags) == 0 {
		e.images = slices.DeleteFunc(e.images, func(other *image.InspectResponse) bool { return other == img })
		out = append(out, image.DeleteResponse{Deleted: img.ID})
	}
	return out, nil
}

// findNetwork is called with the lock held.
func (e *Engine) findNetwork(ref string) (*network.Inspect, error) {
	for _, n := range e.networks {
		if n.Name == ref || (len(ref) >= 4 && strings.HasPrefix(n.ID, ref)) {
			return n, nil
		}
	}
	return nil, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
}

// NetworkCreate keeps a network as it was asked for.
func (e *Engine) NetworkCreate(_ context.Context, request network.CreateRequest) (network.CreateResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.findNetwork(request.Name); err == nil {
		return network.CreateResponse{}, fmt.Errorf("network with name %s already exists: %w", request.Name, errdefs.ErrConflict)
	}
	n := &network.Inspect{Network: network.Network{
		Name: request.Name, ID: newID(), Created: time.Now(), Scope: "local", Driver: request.Driver,
		EnableIPv4: true, Internal: request.Internal, Options: request.Options, Labels: request.Labels,
	}}
	if request.IPAM != nil {
		n.IPAM = *request.IPAM
	}
	if len(n.IPAM.Config) == 0 {
		n.IPAM.Config = []network.IPAMConfig{{Subnet: netip.MustParsePrefix("172.18.0.0/16")}}
	}
	e.networks = append(e.networks, n)
	return network.CreateResponse{ID: n.ID}, nil
}

// NetworkList lists all networks.
func (e *Engine) NetworkList(context.Context, map[string][]string) ([]network.Inspect, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []network.Inspect
	for _, n := range e.networks {
		out = append(out, *n)
	}
	return out, nil
}

// NetworkInspect returns one network.
func (e *Engine) NetworkInspect(_ context.Context, ref string) (network.Inspect, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.findNetwork(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	return *n, nil
}

// NetworkRemove removes all but the predefined.
func (e *Engine) NetworkRemove(_ context.Context, ref string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.findNetwork(ref)
	if err != nil {
		return err
	}
	if n.Name == "bridge" || n.Name == "host" || n.Name == "none" {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", n.Name, errdefs.ErrPermissionDenied)
	}
	e.networks = slices.DeleteFunc(e.networks, func(other *network.Inspect) bool { return other == n })
	return nil
}

// NetworkConnect notes the container on the network.
func (e *Engine) NetworkConnect(_ context.Context, ref string, request network.ConnectRequest) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.findNetwork(ref)
	if err != nil {
		return err
	}
	c, err := e.find(request.Container)
	if err != nil {
		return err
	}
	if _, there := n.Containers[c.ID]; there {
		return fmt.Errorf("endpoint with name %s already exists in network %s: %w", c.Name[1:], n.Name, errdefs.ErrPermissionDenied)
	}
	if n.Containers == nil {
		n.Containers = map[string]network.EndpointResource{}
	}
	n.Containers[c.ID] = network.EndpointResource{Name: c.Name[1:]}
	e.Connected = append(e.Connected, request)
	return nil
}

// NetworkDisconnect takes the container off the network.
func (e *Engine) NetworkDisconnect(_ context.Context, ref, containerRef string, force bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.findNetwork(ref)
	if err != nil {
		return err
	}
	c, err := e.find(containerRef)
	if err != nil {
		return err
	}
	if _, there := n.Containers[c.ID]; !there && !force {
		return fmt.Errorf("container %s is not connected to network %s: %w", c.ID, n.Name, errdefs.ErrPermissionDenied)
	}
	delete(n.Containers, c.ID)
	return nil
}

// NetworkPrune removes all networks that are not predefined and have no container.
// It knows the filter label!=keep alone.
func (e *Engine) NetworkPrune(_ context.Context, filters map[string][]string) (network.PruneReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out network.PruneReport
	e.networks = slices.DeleteFunc(e.networks, func(n *network.Inspect) bool {
		_, kept := n.Labels["keep"]
		if n.Name == "bridge" || n.Name == "host" || n.Name == "none" || len(n.Containers) > 0 || (kept && len(filters["label!"]) > 0) {
			return false
		}
		out.NetworksDeleted = append(out.NetworksDeleted, n.Name)
		return true
	})
	return out, nil
}
