package cli

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/cli/portspec"
)

// createFlags are the flags that run and create share.
type createFlags struct {
	limitFlags
	deviceFlags
	isolationFlags
	healthFlags
	pullFlags
	name, entrypoint, workdir, user string
	hostname, domainname            string
	env, envFiles                   []string
	labels, labelFiles              []string
	interactive, tty, autoRemove    bool
	attach                          []string
	cidfile                         string

	networks                       []string
	aliases                        []string
	links, linkLocal               []string
	ip, ip6, mac                   string
	publish, expose                []string
	publishAll                     bool
	dns, dnsSearch, dnsOptions     []string
	dnsOpts                        []string
	addHosts, sysctls              []string
	capAdd, capDrop                []string
	privileged, readOnly           bool
	stopSignal                     string
	stopTimeout                    int
	entrypointGiven, stopTimeGiven bool
}

// register adds the flags.
func (f *createFlags) register(cmd *cobra.Command, a *app) {
	// What follows the image is the container's command, flags and all.
	cmd.Flags().SetInterspersed(false)
	fl := cmd.Flags()
	fl.SortFlags = false // help sorts them, and nobody else needs it
	fl.SetNormalizeFunc(alias(map[string]string{"net": "network", "net-alias": "network-alias"}))
	fl.StringVar(&f.name, "name", "", "name of the container (default: one is made up)")
	fl.StringVar(&f.entrypoint, "entrypoint", "", "program to run in place of the image's ENTRYPOINT; empty resets it")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working directory inside the container")
	fl.StringVarP(&f.user, "user", "u", "", "user the command runs as, NAME|UID[:GROUP|GID]")
	fl.StringVarP(&f.hostname, "hostname", "h", "", "host name inside the container (default: its short ID)")
	fl.StringVar(&f.domainname, "domainname", "", "domain name inside the container")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "environment variable, NAME=VALUE; NAME alone takes this shell's value")
	fl.StringArrayVar(&f.envFiles, "env-file", nil, "file of environment variables, one a line")
	fl.StringArrayVarP(&f.labels, "label", "l", nil, "label, KEY=VALUE")
	fl.StringArrayVar(&f.labelFiles, "label-file", nil, "file of labels, one a line")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "keep standard input open, and pass ours to it")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	fl.BoolVar(&f.autoRemove, "rm", false, "remove the container when it exits")
	fl.StringArrayVarP(&f.attach, "attach", "a", nil, "attach to stdin, stdout or stderr alone")
	fl.StringVar(&f.cidfile, "cidfile", "", "write the container's ID to this file")
	fl.StringVar(&f.stopSignal, "stop-signal", "", "signal that stops the container (default SIGTERM)")
	fl.IntVar(&f.stopTimeout, "stop-timeout", 0, "seconds from the stop signal to SIGKILL (default 10)")
	under(fl, titleNetwork, func() { f.registerNetwork(fl) })
	under(fl, titleFiles, func() { f.volumeFlags.register(fl) })
	under(fl, titleHealth, func() { f.healthFlags.register(fl) })
	under(fl, titleLimits, func() { f.limitFlags.register(fl) })
	under(fl, titleDevices, func() { f.deviceFlags.register(fl) })
	under(fl, titleRights, func() {
		f.registerRights(fl)
		f.isolationFlags.register(fl)
	})
	under(fl, titleImage, func() { f.pullFlags.register(cmd) })
	trustFlag(cmd)
	refuseCreate(fl)
	f.complete(cmd, a.complete(0, listContainers(true)), a.complete(0, listVolumes))
	completeFlags(cmd, map[string]cobra.CompletionFunc{
		"network": anywhere(a.complete(0, listNetworks)), "link": anywhere(a.complete(0, listContainers(true))),
	})
}

// registerNetwork adds those for networks, names and ports.
func (f *createFlags) registerNetwork(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.networks, "network", nil,
		"network: bridge, host, none, container:NAME|ID, or a network's name;\nname=NAME[,alias=…][,ip=…][,ip6=…][,mac-address=…][,link-local-ip=…]\n[,driver-opt=KEY=VALUE][,gw-priority=N] for more (repeatable)")
	fl.StringArrayVar(&f.aliases, "network-alias", nil, "further name of the container on its network")
	fl.StringVar(&f.ip, "ip", "", "IPv4 address on the network, as 172.30.0.10")
	fl.StringVar(&f.ip6, "ip6", "", "IPv6 address on the network")
	fl.StringVar(&f.mac, "mac-address", "", "hardware address, as 02:42:ac:11:00:02")
	fl.StringArrayVar(&f.linkLocal, "link-local-ip", nil, "further address, of 169.254.0.0/16 or fe80::/10")
	fl.StringArrayVar(&f.links, "link", nil, "another container by a name of this one's own, NAME[:ALIAS];\non a network of yours it may come later")
	fl.StringArrayVarP(&f.publish, "publish", "p", nil,
		"publish a port on the host, [[HOSTIP:][HOSTPORT[-END]]:]PORT[-END][/tcp|udp|sctp]")
	fl.BoolVarP(&f.publishAll, "publish-all", "P", false, "publish every exposed port on a free port of the host")
	fl.StringArrayVar(&f.expose, "expose", nil, "port the container serves, PORT[-END][/tcp|udp|sctp]")
	fl.StringArrayVar(&f.dns, "dns", nil, "name server's address")
	fl.StringArrayVar(&f.dnsSearch, "dns-search", nil, "search domain")
	fl.StringArrayVar(&f.dnsOptions, "dns-option", nil, "resolver option, as ndots:2")
	fl.StringArrayVar(&f.dnsOpts, "dns-opt", nil, "the same as --dns-option")
	fl.Lookup("dns-opt").Hidden = true // docker's older name
	fl.StringArrayVar(&f.addHosts, "add-host", nil, "line for /etc/hosts, NAME:ADDRESS; host-gateway is the host's address")
}

// registerRights adds those for what the command may do.
func (f *createFlags) registerRights(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.sysctls, "sysctl", nil, "kernel parameter of the container's network, KEY=VALUE")
	fl.StringArrayVar(&f.capAdd, "cap-add", nil, "add a capability, as NET_ADMIN")
	fl.StringArrayVar(&f.capDrop, "cap-drop", nil, "drop a capability")
	fl.BoolVar(&f.privileged, "privileged", false, "every capability and device of the host")
	fl.BoolVar(&f.readOnly, "read-only", false, "make the root file system read-only")
}

// request turns the flags and the arguments IMAGE [COMMAND [ARG…]] into what the
// API takes. detach is run's -d.
func (f *createFlags) request(cmd *cobra.Command, args []string, detach bool) (client.ContainerCreateOptions, error) {
	f.given(cmd)
	f.entrypointGiven = cmd.Flags().Changed("entrypoint")
	f.stopTimeGiven = cmd.Flags().Changed("stop-timeout")
	config, err := f.config(args, detach)
	if err != nil {
		return client.ContainerCreateOptions{}, err
	}
	bindings, published, err := portspec.Publish(f.publish)
	if err != nil {
		return client.ContainerCreateOptions{}, usageError{err}
	}
	if config.ExposedPorts, err = portspec.Expose(f.expose); err != nil {
		return client.ContainerCreateOptions{}, usageError{err}
	}
	maps.Copy(config.ExposedPorts, published)
	mode, endpoints, err := f.endpoints()
	if err != nil {
		return client.ContainerCreateOptions{}, usageError{err}
	}
	if err := f.checkPull(); err != nil {
		return client.ContainerCreateOptions{}, usageError{err}
	}
	host, err := f.hostConfig()
	if err != nil {
		return client.ContainerCreateOptions{}, usageError{err}
	}
	host.NetworkMode = container.NetworkMode(mode)
	host.PortBindings = bindings
	wanted, err := f.platforms()
	if err != nil {
		return client.ContainerCreateOptions{}, usageError{err}
	}
	var platform *ocispec.Platform
	if len(wanted) > 0 {
		platform = &wanted[0]
	}
	return client.ContainerCreateOptions{
		Name:             f.name,
		Platform:         platform,
		Config:           config,
		HostConfig:       host,
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: endpoints},
	}, nil
}

func (f *createFlags) config(args []string, detach bool) (*container.Config, error) {
	env, err := environment(f.envFiles, f.env)
	if err != nil {
		return nil, usageError{err}
	}
	lines, err := readLabelFiles(f.labelFiles)
	if err != nil {
		return nil, usageError{err}
	}
	labels, err := keyValues("--label", append(lines, f.labels...), true)
	if err != nil {
		return nil, usageError{err}
	}
	in, out, errs, err := f.attached(detach)
	if err != nil {
		return nil, usageError{err}
	}
	check, err := f.healthCheck()
	if err != nil {
		return nil, usageError{err}
	}
	volumes, err := f.anonymous()
	if err != nil {
		return nil, usageError{err}
	}
	c := &container.Config{
		Image: args[0], Cmd: args[1:], Env: env, Labels: labels,
		Hostname: f.hostname, Domainname: f.domainname, User: f.user, WorkingDir: f.workdir,
		Tty: f.tty, OpenStdin: f.interactive, StdinOnce: in,
		AttachStdin: in, AttachStdout: out, AttachStderr: errs,
		StopSignal: f.stopSignal, Healthcheck: check, Volumes: volumes,
	}
	if f.entrypointGiven {
		// [""] is how the API says that the image's own is to be dropped.
		c.Entrypoint = []string{f.entrypoint}
	}
	if f.stopTimeGiven {
		c.StopTimeout = &f.stopTimeout
	}
	return c, nil
}

// attached says which of the streams are attached: those named by -a, else
// output and errors, and input with -i; none with -d.
func (f *createFlags) attached(detach bool) (in, out, errs bool, err error) {
	if detach {
		if len(f.attach) > 0 {
			return false, false, false, errors.New("-d and -a exclude each other")
		}
		return false, false, false, nil
	}
	if len(f.attach) == 0 {
		return f.interactive, true, true, nil
	}
	for _, name := range f.attach {
		switch strings.ToLower(name) {
		case "stdin":
			in = true
		case "stdout":
			out = true
		case "stderr":
			errs = true
		default:
			return false, false, false, fmt.Errorf("invalid -a %q: want stdin, stdout or stderr", name)
		}
	}
	return in, out, errs, nil
}

func (f *createFlags) hostConfig() (*container.HostConfig, error) {
	sysctls, err := keyValues("--sysctl", f.sysctls, false)
	if err != nil {
		return nil, err
	}
	var servers []netip.Addr
	for _, s := range f.dns {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("invalid --dns %q: want an IP address", s)
		}
		servers = append(servers, addr)
	}
	var hosts []string
	for _, h := range f.addHosts {
		name, addr, found := cutHost(h)
		if !found || name == "" || addr == "" {
			return nil, fmt.Errorf("invalid --add-host %q: want NAME:ADDRESS", h)
		}
		hosts = append(hosts, name+":"+addr)
	}
	host := &container.HostConfig{
		AutoRemove: f.autoRemove, PublishAllPorts: f.publishAll,
		DNS: servers, DNSSearch: f.dnsSearch, DNSOptions: append(f.dnsOptions, f.dnsOpts...),
		ExtraHosts: hosts, Sysctls: sysctls, Links: f.links,
		CapAdd: f.capAdd, CapDrop: f.capDrop, Privileged: f.privileged, ReadonlyRootfs: f.readOnly,
	}
	for _, apply := range []func(*container.HostConfig) error{
		f.limitFlags.apply, f.deviceFlags.apply, f.isolationFlags.apply, f.healthFlags.apply,
	} {
		if err := apply(host); err != nil {
			return nil, err
		}
	}
	return host, nil
}

// cutHost splits NAME:ADDRESS or NAME=ADDRESS; an IPv6 address has colons too.
func cutHost(s string) (name, addr string, found bool) {
	if i := strings.IndexAny(s, ":="); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", "", false
}

// keyValues reads KEY=VALUE pairs; without bare, KEY alone is an error.
func keyValues(flag string, pairs []string, bare bool) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range pairs {
		key, value, found := strings.Cut(pair, "=")
		if key == "" || (!found && !bare) {
			return nil, fmt.Errorf("invalid %s %q: want KEY=VALUE", flag, pair)
		}
		out[key] = value
	}
	return out, nil
}
