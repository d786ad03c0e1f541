package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// needed are the capabilities (capabilities(7)) that root may lack, as in a
// container, and that nothing here works without.
var needed = []struct {
	number int
	name   string
	what   string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "links and firewall rules"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "namespaces and mounts"},
}

// checkPrivileges says what the process lacks to be the daemon.
func checkPrivileges() error {
	if os.Geteuid() != 0 {
		return errors.New("the daemon needs root: it makes network namespaces, links and firewall rules; run it with sudo")
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // capabilities 0 to 31, and 32 to 63
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read the process's capabilities: %w", err)
	}
	var lacking []string
	for _, c := range needed {
		if sets[c.number/32].Effective&(1<<(c.number%32)) == 0 {
			lacking = append(lacking, c.name+" ("+c.what+")")
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("the daemon lacks %s: root is not enough where capabilities were taken away; in a container run it --privileged", strings.Join(lacking, " and "))
	}
	return nil
}
