// Package volume keeps named volumes: directories of the host that outlive the
// containers they are mounted in, and what the local driver can mount in their place.
//
// It knows of a container only its ID. What is mounted where inside of one, and when,
// is the engine's to say.
package volume

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Driver is the name of the one driver there is, as Docker's.
const Driver = "local"

// LabelAnonymous marks a volume that was made for a container and has no name that
// anybody chose, as Docker's does.
const LabelAnonymous = "com.docker.volume.anonymous"

// Volume is one volume.
type Volume struct {
	Name      string            `json:"-"`
	CreatedAt time.Time         `json:"created_at"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Options are those of the local driver; with any, a file system is mounted at
	// Path while a container that uses the volume runs.
	Options map[string]string `json:"options,omitempty"`
	// Spared is set of an anonymous volume that is to stay though no container has it.
	Spared bool `json:"spared,omitempty"`
	// Path is the directory on the host that holds its files.
	Path string `json:"-"`
}

// Anonymous says that nobody chose its name.
func (v Volume) Anonymous() bool {
	_, marked := v.Labels[LabelAnonymous]
	return marked
}

// Request asks for a volume.
type Request struct {
	// Name of the volume; "" is one that is anonymous.
	Name string
	// Driver is "" or "local": there is no other.
	Driver          string
	Options, Labels map[string]string
	// Quick spares the wait until the volume is on disk: for one that a container
	// brings along.
	Quick bool
}

// newName is 64 hexadecimal digits, as Docker's of anonymous volumes.
func newName() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// maxName is the longest file name of Linux's file systems, in bytes.
const maxName = 255

// CheckName says why a name cannot be a volume's; errdefs.ErrInvalidArgument.
func CheckName(name string) error {
	switch {
	case len(name) == 1:
		return fmt.Errorf("volume name is too short, names should be at least two alphanumeric characters: %w", errdefs.ErrInvalidArgument)
	case len(name) > maxName:
		return fmt.Errorf("volume name is too long: %d bytes, a file's name has at most %d: %w", len(name), maxName, errdefs.ErrInvalidArgument)
	case !validName.MatchString(name):
		return fmt.Errorf("%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. "+
			"If you intended to pass a host directory, use absolute path: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Check says why the volume cannot be made; errdefs.ErrInvalidArgument, and
// errdefs.ErrNotFound for another driver.
func (r Request) Check() error {
	if r.Driver != "" && r.Driver != Driver {
		return fmt.Errorf("error looking up volume plugin %s: plugin %q not found: the only driver is %s, whose options mount what mount(8) can: %w",
			r.Driver, r.Driver, Driver, errdefs.ErrNotFound)
	}
	if r.Name != "" {
		if err := CheckName(r.Name); err != nil {
			return err
		}
	}
	return checkOptions(r.Options)
}

// checkOptions: type, device and o are those of mount(8); the last needs the first
// two, and they each other.
func checkOptions(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch key {
		case "type", "device", "o":
		case "size":
			return fmt.Errorf("option \"size\" is not supported: a volume has the room of its file system; "+
				"for a tmpfs say type=tmpfs, device=tmpfs, o=size=%s: %w", options[key], errdefs.ErrNotImplemented)
		default:
			return fmt.Errorf("invalid option: %q: %w", key, errdefs.ErrInvalidArgument)
		}
	}
	if len(options) == 0 {
		return nil
	}
	for _, key := range []string{"type", "device"} {
		if options[key] == "" {
			return fmt.Errorf("missing required option: %q: %w", key, errdefs.ErrInvalidArgument)
		}
	}
	if strings.ContainsRune(options["device"]+options["type"]+options["o"], 0) {
		return fmt.Errorf("an option of a volume holds a zero byte: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
