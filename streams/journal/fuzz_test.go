package journal

import (
	"bytes"
	"testing"
)

// FuzzExport: whatever journalctl prints, reading it ends.
func FuzzExport(f *testing.F) {
	f.Add([]byte("__CURSOR=a\nMESSAGE=b\n\n"))
	f.Add([]byte("MESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n\n"))
	f.Add([]byte("MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := newDecoder(bytes.NewReader(raw))
		for entries := 0; ; entries++ {
			fields, err := d.next()
			if err != nil {
				return
			}
			if len(fields) == 0 || entries > len(raw) {
				t.Fatalf("%d entries of %d bytes, the last is %q", entries, len(raw), fields)
			}
		}
	})
}
