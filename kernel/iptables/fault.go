package iptables

import (
	"fmt"
	"strings"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// fault is the error that a test wants of a program: iptables.save, iptables.restore or
// iptables.list, and a suffix.
func fault(command, suffix string) error {
	if !faultpoint.Armed() {
		return nil
	}
	name := "list"
	switch {
	case strings.HasSuffix(command, "-restore"):
		name = "restore"
	case strings.HasSuffix(command, "-save"):
		name = "save"
	}
	if err := faultpoint.Here("iptables." + name + suffix); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}
