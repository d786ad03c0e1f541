package plan

// Try calls decide, which decides and records nothing, and leaves no trace of it: the
// ports that it chose are chosen by the next, too.
func (s *State) Try(decide func() error) error {
	cursor := s.book.Cursor()
	defer s.book.SetCursor(cursor)
	return decide()
}
