package engine

import (
	crand "crypto/rand"
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// A container nobody named is called by a quality and a seafarer's surname.
var (
	adjectives = [...]string{
		"able", "airy", "amber", "ample", "astute", "balmy", "blithe", "brave", "breezy", "brisk", "bright", "calm",
		"candid", "clever", "coastal", "cosy", "crisp", "daring", "deft", "eager", "early", "even", "fair", "fleet",
		"fluent", "fond", "frank", "free", "fresh", "gentle", "genial", "glad", "golden", "grand", "hale", "handy",
		"hardy", "hearty", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry",
		"mild", "modest", "nimble", "noble", "patient", "placid", "plucky", "polite", "prompt", "proud", "quick",
		"quiet", "ready", "robust", "rosy", "sage", "salty", "serene", "sharp", "silent", "silver", "smart", "snug",
		"sober", "solid", "sound", "spry", "stable", "staunch", "steady", "stout", "sturdy", "sunny", "sure", "swift",
		"tidal", "tidy", "tranquil", "trim", "true", "upbeat", "valiant", "vivid", "warm", "watchful", "wise", "witty",
	}
	surnames = [...]string{
		"amundsen", "baret", "barents", "baudin", "beaufort", "bellingshausen", "bering", "bligh", "bougainville",
		"bowditch", "byrd", "cabot", "cabral", "cartier", "cavendish", "columbus", "cook", "cousteau", "crean", "dampier",
		"davis", "dias", "drake", "earle", "erikson", "fitzroy", "flinders", "franklin", "frobisher", "gama", "halley",
		"hartog", "henson", "heyerdahl", "hudson", "humboldt", "ibnmajid", "janszoon", "joyon", "kidd", "krusenstern",
		"laperouse", "macarthur", "mackenzie", "magellan", "malaspina", "maury", "mawson", "mercator", "moitessier",
		"nansen", "nordenskiold", "oates", "orellana", "parry", "peary", "pigafetta", "piri", "pytheas", "quiros",
		"raleigh", "ross", "scoresby", "scott", "selkirk", "shackleton", "slocum", "smyth", "sverdrup", "tabarly",
		"tasman", "torres", "tharp", "tupaia", "vancouver", "verrazzano", "vespucci", "wallis", "weddell", "wilkes",
		"worsley", "zarco", "zhenghe",
	}
)

// freeName makes a name that take accepts, with a number when luck runs out.
func freeName(take func(string) bool) string {
	for tries := 0; ; tries++ {
		name := adjectives[rand.IntN(len(adjectives))] + "_" + surnames[rand.IntN(len(surnames))]
		if tries > 5 {
			name += hex.EncodeToString([]byte{byte(rand.IntN(256)), byte(rand.IntN(256))})
		}
		if take(name) {
			return name
		}
	}
}

// newID makes an ID of 64 hex digits. Its first twelve are the container's host
// name, and a resolver takes a name of digits alone for an address (inet_aton(3)),
// so that the container could not look itself up: those are passed over.
func newID() string {
	b := make([]byte, 32)
	for {
		_, _ = crand.Read(b) // never fails: crypto/rand crashes the program instead
		if id := hex.EncodeToString(b); strings.Trim(short(id), "0123456789") != "" {
			return id
		}
	}
}
