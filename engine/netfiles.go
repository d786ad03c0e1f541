package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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

// lastSuffix names the copy of what was last written: by it a change of ours is
// told from one that the container's user made.
const lastSuffix = ".last"

// writeFiles writes them anew for the container's start. They are changed in place:
// a container that has them mounted sees it.
func (e *Engine) writeFiles(c *instance, a spec.Attachment) error {
	rec := c.record()
	if rec.HostConfig.NetworkMode.IsContainer() {
		return nil
	}
	c.files.Lock()
	defer c.files.Unlock()
	content, err := e.renderFiles(rec, a)
	if err != nil {
		return err
	}
	content[hostnameFile] = []byte(rec.Config.Hostname + "\n")
	for name, text := range content {
		if err := e.writeFile(rec, name, text); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) renderFiles(rec Record, a spec.Attachment) (map[string][]byte, error) {
	hosts, err := e.renderHosts(rec, a)
	if err != nil {
		return nil, err
	}
	resolv, err := e.renderResolvConf(rec, a)
	return map[string][]byte{hostsFile: hosts, resolvConfFile: resolv}, err
}

func (e *Engine) writeFile(rec Record, name string, text []byte) error {
	path := filepath.Join(e.dir(rec.ID), name)
	err := os.WriteFile(path, text, 0o644)
	if err == nil && name != hostnameFile {
		err = os.WriteFile(path+lastSuffix, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write %s of container %s: %w", name, rec.Name, err)
	}
	return nil
}

// updateFiles brings the files of a running container in line with its present
// network. What its user changed stays: lines of the hosts file come and go one by
// one, and a resolv.conf that is not as we wrote it is left alone.
func (e *Engine) updateFiles(c *instance) error {
	rec := c.record()
	if rec.HostConfig.NetworkMode.IsContainer() {
		return nil
	}
	a, _ := e.cfg.Network.Attachment(rec.ID)
	c.files.Lock()
	defer c.files.Unlock()
	content, err := e.renderFiles(rec, a)
	if err != nil {
		return err
	}
	for name, text := range content {
		path := filepath.Join(e.dir(rec.ID), name)
		last, err := readIfThere(path + lastSuffix)
		if err != nil {
			return err
		}
		now, err := readIfThere(path)
		if err != nil {
			return err
		}
		switch {
		case bytes.Equal(last, text):
			continue
		case name == hostsFile:
			now = files.Merge(now, last, text)
		case bytes.Equal(now, last):
			now = text
		}
		if err := errors.Join(e.writeFile(rec, name, now), os.WriteFile(path+lastSuffix, text, 0o600)); err != nil {
			return err
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
	extra = append(extra, e.linkEntries(rec)...)
	var own []files.Entry
	for _, endpoint := range a.Endpoints {
		for _, p := range endpoint.Addrs() {
			own = append(own, files.Entry{Addr: p.Addr(), Names: names})
		}
	}
	return files.Hosts(hasIPv6(rec), extra, own), nil
}

// hasIPv6 says whether the container's network has IPv6: not where its user, or the
// kernel's command line, turned it off.
func hasIPv6(rec Record) bool {
	const off = "net.ipv6.conf.all.disable_ipv6"
	for _, key := range []string{off, strings.ReplaceAll(off, ".", "/")} {
		if rec.HostConfig.Sysctls[key] == "1" {
			return false
		}
	}
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
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

// renderResolvConf leads to the container's resolver where the attachment has one,
// else to the servers themselves.
func (e *Engine) renderResolvConf(rec Record, a spec.Attachment) ([]byte, error) {
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
	ipv6 := len(a.Endpoints) == 0
	for _, endpoint := range a.Endpoints {
		if endpoint.Network != spec.DefaultNetwork {
			return files.OwnResolvConf(host, user), nil
		}
		ipv6 = ipv6 || endpoint.Addr6.IsValid()
	}
	uplinks, err := readIfThere(resolvedUplinks)
	if err != nil {
		return nil, err
	}
	return files.ResolvConf(host, uplinks, user, ipv6), nil
}

// resolvedUplinks is where systemd-resolved says which servers it asks itself
// (systemd-resolved.service(8)).
const resolvedUplinks = "/run/systemd/resolve/resolv.conf"

// readIfThere reads a file of the host's that a host may do without.
func readIfThere(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the host's %s: %w", filepath.Base(path), err)
	}
	return raw, nil
}
