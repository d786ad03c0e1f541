package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

// pseudo are the modes that look like networks to clients and are none.
var pseudo = []string{network.NetworkHost, network.NetworkNone}

// pseudoID is the ID of one of them, the same for the life of the data root.
func (e *Engine) pseudoID(name string) string {
	sum := sha256.Sum256([]byte("network " + name + " of " + e.cfg.DataRoot))
	return hex.EncodeToString(sum[:])
}

// NetworkCreate makes a bridge network.
func (e *Engine) NetworkCreate(ctx context.Context, req network.CreateRequest) (network.CreateResponse, error) {
	leave, err := e.enter()
	if err != nil {
		return network.CreateResponse{}, err
	}
	defer leave()
	in, err := networkRequest(req)
	if err != nil {
		return network.CreateResponse{}, err
	}
	n, err := e.cfg.Network.CreateNetwork(ctx, in)
	if err != nil {
		return network.CreateResponse{}, err
	}
	e.emitNetworkOf("", n, apievents.ActionCreate)
	return network.CreateResponse{ID: n.ID}, nil
}

// networkRequest is what the network is asked for, or why it cannot be.
func networkRequest(req network.CreateRequest) (in spec.NetworkRequest, err error) {
	for name, asked := range map[string]bool{
		"Ingress": req.Ingress, "ConfigOnly": req.ConfigOnly,
		"ConfigFrom": req.ConfigFrom != nil && req.ConfigFrom.Network != "",
		"Scope":      req.Scope != "" && req.Scope != "local",
	} {
		if asked {
			return in, fmt.Errorf("network %s: %s is not supported: it is for the services of a swarm, and this is one host: %w", req.Name, name, errdefs.ErrNotImplemented)
		}
	}
	if slices.Contains(pseudo, req.Name) || req.Name == network.NetworkDefault {
		return in, fmt.Errorf("operation is not permitted on predefined %s network: %w", req.Name, errdefs.ErrPermissionDenied)
	}
	in = spec.NetworkRequest{
		Name: req.Name, Driver: req.Driver, Internal: req.Internal, Attachable: req.Attachable, IPv4: req.EnableIPv4,
		IPv6: req.EnableIPv6 != nil && *req.EnableIPv6, Labels: req.Labels, Options: req.Options,
	}
	if req.IPAM != nil {
		if d := req.IPAM.Driver; d != "" && d != "default" {
			return in, fmt.Errorf("network %s: IPAM driver %q is not supported: %w", req.Name, d, errdefs.ErrNotImplemented)
		}
		if len(req.IPAM.Options) > 0 {
			return in, fmt.Errorf("network %s: IPAM options are not supported: %w", req.Name, errdefs.ErrNotImplemented)
		}
		for _, c := range req.IPAM.Config {
			if !c.Subnet.IsValid() {
				if c.Gateway.IsValid() || c.IPRange.IsValid() || len(c.AuxAddress) > 0 {
					return in, fmt.Errorf("network %s: a gateway, range or auxiliary address needs its subnet: %w", req.Name, errdefs.ErrInvalidArgument)
				}
				continue
			}
			in.Subnets = append(in.Subnets, spec.Subnet{Prefix: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Aux: c.AuxAddress})
		}
	}
	return in, nil
}

// NetworkRemove removes a network that nobody is on.
func (e *Engine) NetworkRemove(ctx context.Context, ref string) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	n, err := e.NetworkInspect(ctx, ref)
	if err != nil {
		return err
	}
	if slices.Contains(pseudo, n.Name) || n.Name == spec.DefaultNetwork {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", n.Name, errdefs.ErrPermissionDenied)
	}
	if err := e.keptByOthers(n.ID, n.Name); err != nil {
		return err
	}
	if err := e.cfg.Network.RemoveNetwork(ctx, n.ID); err != nil {
		return err
	}
	e.emitNetworkOf("", spec.Network{ID: n.ID, Name: n.Name, Driver: n.Driver}, apievents.ActionDestroy)
	return nil
}

// keptByOthers refuses for a network that a stopped container is still on because
// others share its network: they are who is to be stopped.
func (e *Engine) keptByOthers(id, name string) error {
	for _, a := range e.cfg.Network.Attachments() {
		if _, on := a.Endpoint(id); !on {
			continue
		}
		owner, err := e.registry.find(a.Sandbox.ID)
		if err == nil && owner.running() != nil {
			continue
		}
		var names []string
		for _, member := range e.occupants.of(a.Sandbox.ID) {
			if c, err := e.registry.find(member); err == nil && member != a.Sandbox.ID {
				names = append(names, c.record().Name)
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			return fmt.Errorf("error while removing network: network %s id %s has active endpoints (that of %s, which does not run, is kept by who shares its network: %s); stop them first: %w",
				name, id, a.Sandbox.Name, strings.Join(names, ", "), errdefs.ErrConflict)
		}
	}
	return nil
}

// NetworkPrune removes the networks that nobody is on, and returns their names.
// Filters are Docker's: label, label!, until. A network that somebody joins
// meanwhile stays.
func (e *Engine) NetworkPrune(ctx context.Context, filters map[string][]string) (network.PruneReport, error) {
	leave, err := e.enter()
	if err != nil {
		return network.PruneReport{}, err
	}
	defer leave()
	match, err := pruneFilter(filters, time.Now())
	if err != nil {
		return network.PruneReport{}, err
	}
	var out network.PruneReport
	var errs []error
	for _, n := range e.cfg.Network.Networks() {
		if n.Default || !match(n.Labels, n.Created) || len(e.describe(n).Containers) > 0 {
			continue
		}
		switch err := e.cfg.Network.RemoveNetwork(ctx, n.ID); {
		case err == nil:
			out.NetworksDeleted = append(out.NetworksDeleted, n.Name)
			e.emitNetworkOf("", n, apievents.ActionDestroy)
		case errdefs.IsConflict(err), errdefs.IsPermissionDenied(err), errdefs.IsNotFound(err), errdefs.IsFailedPrecondition(err), errdefs.IsUnavailable(err):
			e.log.Info("a network was not pruned", "network", n.Name, "operation", "prune", "err", err)
		default:
			errs = append(errs, err)
		}
	}
	e.emit(apievents.NetworkEventType, apievents.ActionPrune, "", map[string]string{"reclaimed": "0"})
	return out, errors.Join(errs...)
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }
