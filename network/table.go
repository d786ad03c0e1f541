package network

// RuleTable is the name of our own tables of nf_tables, in each family that has one.
func (c *Controller) RuleTable() string { return c.plan.Table }

// UserlandProxy says that the relay serves published ports on loopback.
func (c *Controller) UserlandProxy() bool { return c.cfg.UserlandProxy }

// LoopbackHooks says that programs on the cgroup root serve published ports on loopback.
func (c *Controller) LoopbackHooks() bool { return c.hooks != nil }
