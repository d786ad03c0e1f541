package nft

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// cannot is what the kernel answers to what it does not know: a flag, a message, a
// family, a subsystem.
var cannot = []unix.Errno{unix.EOPNOTSUPP, unix.EINVAL, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.ENOENT}

// probe asks what the kernel can do.
func (c *Conn) probe() error {
	const name = "fairlead_probe"
	table := func(f ruleset.Family, suffix string, flags uint32) func(*batch) {
		return func(b *batch) { b.newTable(ruleset.Table{Family: f, Name: name + suffix}, flags) }
	}
	can, err := c.ask(
		table(ruleset.Inet, "", 0),
		table(ruleset.Inet, "_owner", tableFlagOwner),
		table(ruleset.Inet, "_persist", tableFlagOwner|tableFlagPersist),
		func(b *batch) { b.tableRef(msgDestroyTable, ruleset.Inet, name+"_destroy") },
		table(ruleset.Bridge, "", 0),
		func(b *batch) { _ = b.countFlows(name + "_flows") },
	)
	if err != nil {
		return fmt.Errorf("ask what the kernel's nf_tables can do: %w", err)
	}
	if !can[0] {
		return errors.New("the kernel has no nf_tables of family inet: load or build nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)")
	}
	c.features = Features{Owner: can[1], Persist: can[2], Destroy: can[3], Bridge: can[4], Flows: can[5]}
	c.features.lack(os.Getenv(LacksEnv))
	return nil
}

// ask says of each of the questions whether the kernel would do it, by one batch that it
// checks and then drops: where one fails it goes on with the next. What it would have
// done it undoes after a grace period of RCU, some 10 ms for a batch with much or with
// little in it (__nf_tables_abort of Linux 6.18).
func (c *Conn) ask(questions ...func(*batch)) ([]bool, error) {
	b := c.newBatch(nil)
	var of []int // the question of each part
	for i, encode := range questions {
		encode(b)
		for len(of) < len(b.parts) {
			of = append(of, i)
		}
	}
	failures, err := c.exchange(b, false)
	if err != nil {
		return nil, err
	}
	can := slices.Repeat([]bool{true}, len(questions))
	for _, f := range failures {
		switch {
		case errors.Is(f.errno, unix.EPERM):
			return nil, fmt.Errorf("%w; CAP_NET_ADMIN is needed", f.errno)
		case !slices.Contains(cannot, f.errno):
			return nil, f.errno // no memory, say: it is no answer to what was asked
		case f.part < 0: // of the batch as a whole
			clear(can)
		default:
			can[of[f.part]] = false
		}
	}
	return can, nil
}
