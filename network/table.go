package network

// RuleTable is the name of our own tables of nf_tables, in each family that has one.
func (c *Controller) RuleTable() string { return c.plan.Table }

// UserlandProxy says that the relay serves published ports on loopback.
func (c *Controller) UserlandProxy() bool { return c.cfg.UserlandProxy }
