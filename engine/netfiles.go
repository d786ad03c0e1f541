package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/files"
	"github.com/fairlead/fairlead/network/spec"
)

// The files that are mounted into every container.
const (
	hostsFile      = "hosts"
	hostnameFile   = "hostname"
	resolvConfFile = "resolv.conf"
)

// filesOwner is the ID of the container whose files are used: in another's
// network they are the other's.
func (e *Engine) filesOwner(rec Record) string {
	for range 16 { // a chain of containers, each in the network of the next
		if !rec.HostConfig.NetworkMode.IsContainer() {
			break
		}
		other, ok := e.registry.get(rec.HostConfig.NetworkMode.ConnectedContainer())
		if !ok {
			break
		}
		rec = other.record()
	}
	return rec.ID
}

// mountedFiles is where each comes from, by its path in the container.
func (e *Engine) mountedFiles(rec Record) map[string]string {
	dir := e.dir(e.filesOwner(rec))
	return map[string]string{
		"/etc/hosts":       filepath.Join(dir, hostsFile),
		"/etc/hostname":    filepath.Join(dir, hostnameFile),
		"/etc/resolv.conf": filepath.Join(dir, resolvConfFile),
	}
}

// writeFiles writes them for the container's present addresses. They are
// changed in place: a container that has them mounted sees it.
func (e *Engine) writeFiles(rec Record, a spec.Attachment) error {
	if rec.HostConfig.NetworkMode.IsContainer() {
		return nil
	}
	hosts, err := e.renderHosts(rec, a)
	if err != nil {
		return err
	}
	resolv, err := e.renderResolvConf(rec)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		hostsFile: hosts, resolvConfFile: resolv, hostnameFile: []byte(rec.Config.Hostname + "\n"),
	} {
		path := filepath.Join(e.dir(rec.ID), name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write %s of container %s: %w", name, rec.Name, err)
		}
	}
	return nil
}

func (e *Engine) renderHosts(rec Record, a spec.Attachment) ([]byte, error) {
	extra, err := e.extraHosts(rec)
	if err != nil {
		return nil, err
	}
	if rec.HostConfig.NetworkMode.IsHost() {
		host, err := readIfThere(e.cfg.Hosts)
		return files.AppendHosts(host, extra), err
	}
	names := []string{rec.Config.Hostname}
	if rec.Config.Domainname != "" {
		names = []string{rec.Config.Hostname + "." + rec.Config.Domainname, rec.Config.Hostname}
	} else if host, _, ok := strings.Cut(rec.Config.Hostname, "."); ok {
		names = append(names, host)
	}
	var own []files.Entry
	for _, endpoint := range a.Endpoints {
		for _, p := range endpoint.Addrs() {
			own = append(own, files.Entry{Addr: p.Addr(), Names: names})
		}
	}
	return files.Hosts(extra, own), nil
}

func (e *Engine) extraHosts(rec Record) ([]files.Entry, error) {
	var out []files.Entry
	for _, s := range rec.HostConfig.ExtraHosts {
		entries, err := files.ParseExtraHost(s, e.gateways())
		if err != nil {
			return nil, err
		}
		out = append(out, entries...)
	}
	return out, nil
}

func (e *Engine) renderResolvConf(rec Record) ([]byte, error) {
	host, err := readIfThere(e.cfg.ResolvConf)
	if err != nil {
		return nil, err
	}
	h := rec.HostConfig
	user := files.Resolver{Servers: h.DNS, Search: h.DNSSearch, Options: h.DNSOptions}
	if h.NetworkMode.IsHost() && len(user.Servers)+len(user.Search)+len(user.Options) == 0 {
		return host, nil // the host's resolver is as near to it as to the host
	}
	if len(user.Servers) == 0 {
		user.Servers = e.cfg.DNS
	}
	if len(user.Search) == 0 {
		user.Search = e.cfg.DNSSearch
	}
	if len(user.Options) == 0 {
		user.Options = e.cfg.DNSOptions
	}
	return files.ResolvConf(host, user), nil
}

// readIfThere reads a file of the host's that a host may do without.
func readIfThere(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the host's %s: %w", filepath.Base(path), err)
	}
	return raw, nil
}

// makeSources makes the directories that --volume names and the host lacks, as
// Docker does, and those of a --mount that asks for it.
func makeSources(h *container.HostConfig) error {
	var sources []string
	for _, b := range h.Binds {
		src, _, _ := strings.Cut(b, ":")
		sources = append(sources, src)
	}
	for _, m := range h.Mounts {
		if m.BindOptions != nil && m.BindOptions.CreateMountpoint {
			sources = append(sources, m.Source)
		}
	}
	for _, src := range sources {
		if err := os.MkdirAll(src, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			// A file or a socket there is just as good.
			if _, statErr := os.Stat(src); statErr != nil {
				return fmt.Errorf("make the directory to mount: %w", err)
			}
		}
	}
	return nil
}
