package iptables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Fingerprint tells one state of legacy tables (filter, say) of the current network
// namespace, IPv4 and IPv6, from another: legacy iptables has no events, and this asks
// without starting a program. It is 0 where none is in use.
func Fingerprint(tables ...string) (uint64, error) {
	var sum uint64
	for i, fam := range families() {
		names, err := os.ReadFile(fam.tables)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for _, table := range tables {
			if !slices.Contains(strings.Fields(string(names)), table) {
				continue
			}
			entries, err := layouts[i].entries(table)
			if err != nil {
				return 0, fmt.Errorf("read the legacy %s %s table: %w", fam.name, table, err)
			}
			h := fnv.New64a()
			_, _ = h.Write(entries)
			sum = sum*31 + h.Sum64() | 1
		}
	}
	return sum, nil
}

// layout is how a family's tables are asked for and laid out: struct ipt_getinfo,
// ipt_get_entries and ipt_entry of linux/netfilter_ipv4/ip_tables.h, and their like
// for IPv6.
type layout struct {
	domain, level int
	// counters is where an entry has them, targets where it says how long it is.
	counters, next int
}

var layouts = []layout{
	{domain: unix.AF_INET, level: unix.SOL_IP, counters: 96, next: 90},
	{domain: unix.AF_INET6, level: unix.SOL_IPV6, counters: 152, next: 142},
}

const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES

	tableNameLen  = 32
	infoLen       = 84 // name, valid_hooks, hook_entry[5], underflow[5], num_entries, size
	entriesHeader = 40 // name, size, padding
	countersLen   = 16
)

// entries reads the table's rules, their counters zeroed.
func (l layout) entries(table string) ([]byte, error) {
	fd, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	// The table may grow in between.
	for range 5 {
		info := make([]byte, infoLen)
		copy(info, table)
		if err := getsockopt(fd, l.level, getInfo, info); err != nil {
			return nil, err
		}
		size := binary.NativeEndian.Uint32(info[infoLen-4:])
		b := make([]byte, entriesHeader+int(size))
		copy(b, table)
		binary.NativeEndian.PutUint32(b[tableNameLen:], size)
		err = getsockopt(fd, l.level, getEntries, b)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINVAL) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return append(info, l.withoutCounters(b[entriesHeader:])...), nil
	}
	return nil, unix.EAGAIN
}

func (l layout) withoutCounters(entries []byte) []byte {
	for rest := entries; len(rest) >= l.counters+countersLen; {
		clear(rest[l.counters : l.counters+countersLen])
		n := int(binary.NativeEndian.Uint16(rest[l.next:]))
		if n <= 0 || n > len(rest) {
			break
		}
		rest = rest[n:]
	}
	return bytes.Clone(entries)
}

func getsockopt(fd, level, name int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
