package ruleset

import "fmt"

// Traced has the kernel tell of every rule that decides on the packet from here on, until
// it leaves the network namespace or another link hands it on.
type Traced struct{}

// Bytes matches bytes of the packet that nft has no name for.
type Bytes struct {
	// Offset is counted in bytes from the beginning of the header that the packet's other
	// headers lead to (TCP, UDP, ICMP).
	Offset uint8
	// Value is what is there: a number of two bytes in network order.
	Value uint16
}

func (Traced) expr() {}
func (Bytes) expr()  {}

// String implements Expr.
func (Traced) String() string { return "meta nftrace set 1" }

// String implements Expr.
func (b Bytes) String() string {
	return fmt.Sprintf("@th,%d,16 0x%x", int(b.Offset)*8, b.Value)
}
