package api

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// field is one that some API versions have and others have not, in the words of
// docs/CHANGELOG.md of github.com/moby/moby/api.
type field struct {
	// path is the names of the fields that lead to it, with a dot between; * is every
	// member of an object or a list.
	path string
	// from and to are the first and last version that have it, 0 for no such end.
	from, to minor
	// kept is set where later versions have it still if there is something in it; what
	// is empty is then left out of our answer.
	kept bool
	// missing is the JSON of what those versions have where we have nothing; without
	// it they go without too.
	missing json.RawMessage
}

func (f field) in(version minor) bool {
	return version >= f.from && (f.to == 0 || version <= f.to)
}

// idle says whether the field needs nothing done for the version.
func (f field) idle(version minor) bool {
	return f.in(version) && f.missing == nil || !f.in(version) && f.kept
}

// reshape gives an answer the fields of an API version: what the version has not is
// taken away, what it has and ours lacks is filled in. It is for answers of one
// thing, or to old clients: the answer is encoded twice.
func reshape(version minor, answer any, fields []field) any {
	fields = slices.DeleteFunc(slices.Clone(fields), func(f field) bool { return f.idle(version) })
	if len(fields) == 0 {
		return answer
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return answer // whoever writes it says why
	}
	var tree any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // a size may be more than a float holds
	if err := decoder.Decode(&tree); err != nil {
		return answer
	}
	for _, f := range fields {
		f.apply(version, tree, strings.Split(f.path, "."))
	}
	return tree
}

// apply adds the field, which is not idle, to what is below tree, or takes it from
// there.
func (f field) apply(version minor, tree any, path []string) {
	if list, is := tree.([]any); is {
		if path[0] == "*" {
			path = path[1:]
		}
		for _, member := range list {
			f.apply(version, member, path)
		}
		return
	}
	object, is := tree.(map[string]any)
	if !is {
		return
	}
	name, rest := path[0], path[1:]
	switch {
	case name == "*":
		for _, member := range object {
			f.apply(version, member, rest)
		}
	case len(rest) > 0:
		f.apply(version, object[name], rest)
	case !f.in(version):
		delete(object, name)
	case f.missing != nil:
		if _, there := object[name]; !there {
			var value any
			_ = json.Unmarshal(f.missing, &value) // ours, see the test
			object[name] = value
		}
	}
}

// JSON of what is not there.
var (
	jsonNull   = json.RawMessage("null")
	jsonTrue   = json.RawMessage("true")
	jsonFalse  = json.RawMessage("false")
	jsonZero   = json.RawMessage("0")
	jsonText   = json.RawMessage(`""`)
	jsonList   = json.RawMessage("[]")
	jsonObject = json.RawMessage("{}")
)
