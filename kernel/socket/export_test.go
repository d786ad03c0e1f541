package socket

import "strings"

// ReadListeners are Listeners as proc_net(5) tells of them.
func ReadListeners() (all []Listener, err error) {
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		found, err := readListeners(strings.TrimSuffix(table, "6"), table)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
