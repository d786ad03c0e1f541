package daemon

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// The ports of the API by tcp://, as IANA has them: docker and docker-s.
const (
	plainPort = "2375"
	tlsPort   = "2376"
)

// settleHosts gives each address its full form, once, and refuses what cannot be
// served.
func (c *Config) settleHosts() error {
	if len(c.Hosts) == 0 {
		c.Hosts = []string{""}
	}
	var out []string
	for _, host := range c.Hosts {
		full, err := c.settleHost(strings.TrimSpace(host))
		if err != nil {
			return err
		}
		if !slices.Contains(out, full) {
			out = append(out, full)
		}
	}
	c.Hosts = out
	return nil
}

func (c *Config) settleHost(host string) (string, error) {
	scheme, rest, ok := strings.Cut(host, "://")
	switch {
	case host == "" || host == "unix://":
		if c.front == asDockerd {
			return dockerSocket, nil
		}
		return "unix://" + c.ExecRoot + "/fairlead.sock", nil
	case !ok:
		scheme, rest = "tcp", host // dockerd's short form, address:port
	}
	switch scheme {
	case "unix":
		if !strings.HasPrefix(rest, "/") {
			return "", fmt.Errorf("--host %s: want unix:// and an absolute path", host)
		}
		return host, nil
	case "fd":
		return host, nil
	case "tcp":
		address, err := c.tcpAddress(rest)
		if err != nil {
			return "", fmt.Errorf("--host %s: %w", host, err)
		}
		return "tcp://" + address, c.checkTCP(host)
	}
	return "", fmt.Errorf("--host %s: invalid bind address: want unix:///path, tcp://address:port or fd://", host)
}

// tcpAddress completes an address: localhost, and the port that clients expect.
func (c *Config) tcpAddress(given string) (string, error) {
	port := plainPort
	if c.on() {
		port = tlsPort
	}
	if given == "" {
		return net.JoinHostPort("localhost", port), nil
	}
	address, number, err := net.SplitHostPort(given)
	if err != nil {
		bare := strings.Trim(given, "[]")
		if strings.Contains(bare, "/") || strings.Contains(bare, ":") && net.ParseIP(bare) == nil {
			return "", fmt.Errorf("want tcp://address:port")
		}
		return net.JoinHostPort(bare, port), nil
	}
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 && number != "0" {
		return "", fmt.Errorf("%q is no port", number)
	}
	if address == "" {
		address = "localhost"
	}
	return net.JoinHostPort(address, number), nil
}

// overNetwork says of a settled address that it is not, or may not be, a unix
// socket.
func overNetwork(host string) bool { return !strings.HasPrefix(host, "unix://") }
