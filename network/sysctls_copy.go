package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/fairlead/fairlead/kernel/netns"
)

// bootIDPath tells one boot from another (random(4)).
const bootIDPath = "/proc/sys/kernel/random/boot_id"

// elsewhere is the record's third copy, in the data root: EXEC_ROOT/state may be lost as
// a whole. What it says is so for one boot of one network namespace, which it names.
type elsewhere struct {
	Boot      string            `json:"boot"`
	Namespace uint64            `json:"namespace"`
	Was       map[string]string `json:"was"`
}

// here is a copy without entries for the kernel as it runs.
func here() (elsewhere, error) {
	boot, err := os.ReadFile(bootIDPath)
	inode, ok := netns.Inode("/proc/thread-self/ns/net")
	if err == nil && !ok {
		err = errors.New("this thread's network namespace cannot be told")
	}
	return elsewhere{Boot: strings.TrimSpace(string(boot)), Namespace: inode}, err
}

// readElsewhere is what the third copy says of this kernel, nil where it says nothing of
// it.
func readElsewhere(path string) (map[string]string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found elsewhere
	if err == nil {
		err = json.Unmarshal(raw, &found)
	}
	now, unknown := here()
	if err = errors.Join(err, unknown); err != nil {
		return nil, fmt.Errorf("the copy of what sysctls were, %s: %w", path, err)
	}
	if found.Boot != now.Boot || found.Namespace != now.Namespace {
		return nil, nil
	}
	return found.Was, nil
}

// writeElsewhere writes it; without entries there is no such file.
func writeElsewhere(path string, was map[string]string) error {
	if len(was) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	now, err := here()
	if err != nil {
		return err
	}
	now.Was = was
	raw, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return replaceFile(path, raw)
}
