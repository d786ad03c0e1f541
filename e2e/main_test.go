// Package e2e tests the whole product the way a person meets it: the program's
// command line, real containers, the real kernel, in throw-away hosts.
//
// A test named by a letter and a number shows one behaviour of the scenarios the
// project keeps to; its comment says which. What a package can be tested for by
// itself is tested there.
package e2e

import (
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
