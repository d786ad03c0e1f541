package spec

import (
	"fmt"
	"regexp"

	"github.com/containerd/errdefs"
)

// validName is Docker's rule for names of containers and networks: safe in a
// path, an nft comment, a host name and a log line.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// maxName keeps every name fit for a link alias (255 bytes) with its prefix.
const maxName = 200

// ValidName checks a network's or container's name.
func ValidName(kind, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s name is empty: %w", kind, errdefs.ErrInvalidArgument)
	case len(name) > maxName:
		return fmt.Errorf("%s name is %d bytes long, over %d: %w", kind, len(name), maxName, errdefs.ErrInvalidArgument)
	case !validName.MatchString(name):
		return fmt.Errorf("invalid %s name %q, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed: %w", kind, name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// ResolverTable is the nftables table of family ip in a container's namespace that leads
// 127.0.0.11:53 to the port where the relay answers: its chains of questions, and of
// the answers that come back. Without either no name is answered.
const (
	ResolverTable     = "fairlead_resolver"
	ResolverQuestions = "questions"
	ResolverAnswers   = "answers"
)
