package network

import (
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// Networks returns all networks, oldest first.
func (c *Controller) Networks() []spec.Network {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Networks()
}

// Network finds a network by name, ID or unique ID prefix.
func (c *Controller) Network(ref string) (spec.Network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Network(ref)
}

// Attachments returns every sandbox's attachment.
func (c *Controller) Attachments() []spec.Attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Attachments()
}

// Attachment returns the sandbox's attachment.
func (c *Controller) Attachment(sandboxID string) (spec.Attachment, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Attachment(sandboxID)
}

// member is the attachment as the firewall needs it.
func (c *Controller) member(a spec.Attachment) firewall.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Member(a)
}

// Usage says how full the network's subnets are, in their order; none of a network
// that is not there.
func (c *Controller) Usage(networkID string) []spec.SubnetUsage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Usage(networkID)
}

// Warnings are what a user should be told whenever a container is started.
func (c *Controller) Warnings() (out []string) {
	if on, err := sysctl.Get(forward4); err == nil && on == "0" {
		out = append(out, noForwarding) // now: somebody may turn it on or off
	}
	if c.isPaused() {
		out = append(out, healingPaused)
	}
	return out
}
