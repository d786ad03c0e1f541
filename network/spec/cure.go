package spec

import (
	"fmt"
	"regexp"
)

// RestartCure ends the format of a difference, as of debug check, that is in a container's
// own namespace: neither healing nor the daemon's restart touches what a container changed
// there, and its own restart makes all of it anew. The container's name comes last.
const RestartCure = "; fairlead restart %s puts it back"

// restartCure is RestartCure at the end of a line. What a name can be, see validName, keeps
// a command out that is none.
var restartCure = regexp.MustCompile(fmt.Sprintf(RestartCure, "([a-zA-Z0-9][a-zA-Z0-9_.-]*)") + "$")

// CuredByRestart names the container whose restart the difference says to mend it.
func CuredByRestart(difference string) (container string, ok bool) {
	found := restartCure.FindStringSubmatch(difference)
	if found == nil {
		return "", false
	}
	return found[1], true
}

// ContinueCure is in a difference that a helper process is the cause of, with its number:
// it answers nothing. The daemon's restart waits for it in vain.
const ContinueCure = "; if it is stopped, `kill -CONT %d` has it go on"

var continueCure = regexp.MustCompile("; if it is stopped, `(kill -CONT [0-9]+)` has it go on")

// CuredByContinuing is the command that the difference says to mend it.
func CuredByContinuing(difference string) (command string, ok bool) {
	found := continueCure.FindStringSubmatch(difference)
	if found == nil {
		return "", false
	}
	return found[1], true
}
