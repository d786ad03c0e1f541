package daemon

import (
	"encoding/json"
	"testing"

	"github.com/spf13/pflag"
)

// FuzzConfigFile: whatever a configuration file says, it is refused, or gives settings
// that hold together; and those can be noted and read again, as a teardown does.
func FuzzConfigFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, dockerd bool, raw []byte) {
		read := func(raw []byte) (Config, bool) {
			cfg := front(dockerd).defaults()
			flags := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
			cfg.register(flags)
			clash, err := cfg.mergeJSON("daemon.json", raw, flags)
			if len(clash) > 0 {
				t.Errorf("%s: disagrees with flags that were not given: %v", raw, clash)
			}
			if err == nil {
				err = cfg.check()
			}
			if err != nil && err.Error() == "" {
				t.Errorf("%s: refused without a word", raw)
			}
			return cfg, err == nil
		}
		cfg, good := read(raw)
		if !good {
			return
		}
		if _, err := cfg.network(); err != nil {
			return
		}
		noted, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, good := read(noted)
		if !good {
			t.Errorf("%s is taken, and refused when noted as %s", raw, noted)
		}
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(noted) {
			t.Errorf("%s is noted as\n%s, and then as\n%s %v", raw, noted, twice, err)
		}
	})
}
