package main

import (
	"fmt"
	"os"
	"time"

	"github.com/fairlead/fairlead/bench/throwaway"
)

// host is a throw-away host seen from the driver.
type host struct{ *throwaway.Host }

// startHosts starts one host a name, each ready to measure. On an error it
// returns those that were started, to be stopped.
func startHosts(dir string, names []string) ([]*host, error) {
	var hosts []*host
	for _, name := range names {
		own, err := os.MkdirTemp(dir, "h")
		if err != nil {
			return hosts, err
		}
		h, err := throwaway.Start(name, own)
		if err != nil {
			return hosts, fmt.Errorf("host of %s: %w", name, err)
		}
		hosts = append(hosts, &host{h})
		if _, err := hosts[len(hosts)-1].ask(request{Op: opPrepare}); err != nil {
			return hosts, err
		}
	}
	return hosts, nil
}

// stopHosts ends the hosts and everything that runs in them.
func stopHosts(hosts []*host) {
	var all []*throwaway.Host
	for _, h := range hosts {
		all = append(all, h.Host)
	}
	throwaway.Stop(all)
}

func (h *host) once(kind string) (up, down time.Duration, err error) {
	a, err := h.ask(request{Op: opOnce, Kind: kind})
	return a.Up, a.Down, err
}

func (h *host) fill(endpoints, ports int) error {
	_, err := h.ask(request{Op: opFill, Endpoints: endpoints, Ports: ports})
	return err
}

func (h *host) memory() (int64, error) {
	a, err := h.ask(request{Op: opMemory})
	return a.Memory, err
}

func (h *host) ask(r request) (answer, error) {
	return throwaway.Ask[answer](h.Host, r.Op, r)
}
