package nft

// ForgetDestroy makes the connection work as on a kernel before Linux 6.3.
func (c *Conn) ForgetDestroy() { c.features.Destroy = false }

// ForgetPersist makes the connection work as on a kernel before Linux 6.9.
func (c *Conn) ForgetPersist() { c.features.Persist = false }

// ForgetBridge makes the connection work as on a kernel without tables of the family
// bridge.
func (c *Conn) ForgetBridge() { c.features.Bridge = false }
