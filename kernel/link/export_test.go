package link

// KnownParameters are all that Link.Parameter knows.
func KnownParameters() (out []Parameter) {
	for name := range numbers4 {
		out = append(out, Parameter{Name: name})
	}
	for name := range numbers6 {
		out = append(out, Parameter{V6: true, Name: name})
	}
	return out
}
