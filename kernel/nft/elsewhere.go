package nft

import (
	"fmt"
	"os"
	"time"
)

// OpenKnown is Open for a kernel whose features are known, as those of another
// namespace's connection: nothing is asked.
func OpenKnown(f *os.File, features Features) (*Conn, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("netfilter socket: %w", err)
	}
	return &Conn{file: f, sock: socket{raw: raw}, seq: uint32(time.Now().UnixNano()), features: features}, nil
}
