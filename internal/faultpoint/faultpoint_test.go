package faultpoint

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Fault{
		"link.newlink=ENOBUFS":     {Point: "link.newlink", Errno: syscall.ENOBUFS, Nth: 1},
		"store.commit=ENOSPC@3":    {Point: "store.commit", Errno: syscall.ENOSPC, Nth: 3},
		"link.getlink=EINTR@2+":    {Point: "link.getlink", Errno: syscall.EINTR, Nth: 2, Lasting: true},
		"":                         {},
		"link.newlink":             {},
		"=EINTR":                   {},
		"link.newlink=ESOMETHING":  {},
		"link.newlink=EINTR@0":     {},
		"link.newlink=EINTR@first": {},
	} {
		got, err := Parse(text)
		if got != want || (err == nil) != (want != Fault{}) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

// The tests below share what is armed, and run one after the other.

func TestArmed(t *testing.T) {
	if Armed() || Here("a") != nil {
		t.Fatal("armed by nobody")
	}
	for _, c := range []struct {
		fault Fault
		fails []bool // a, b, a, a
	}{
		{Fault{Point: "a", Errno: syscall.EINTR}, []bool{true, false, false, false}},
		{Fault{Point: "a", Errno: syscall.EINTR, Nth: 2}, []bool{false, false, true, false}},
		{Fault{Point: "a", Errno: syscall.EINTR, Nth: 2, Lasting: true}, []bool{false, false, true, true}},
		{Fault{Errno: syscall.EINTR, Nth: 2, Lasting: true}, []bool{false, true, true, true}},
		{Fault{Point: "c", Errno: syscall.EINTR}, []bool{false, false, false, false}},
	} {
		disarm := Arm(c.fault)
		for i, name := range []string{"a", "b", "a", "a"} {
			if err := Here(name); (err != nil) != c.fails[i] || err != nil && !errors.Is(err, syscall.EINTR) {
				t.Errorf("%+v: point %d: %v", c.fault, i, err)
			}
		}
		if hit := disarm(); hit != slices.Contains(c.fails, true) {
			t.Errorf("%+v: hit: %v", c.fault, hit)
		}
	}
	stop := Trace()
	_, _ = Here("a"), Here("b")
	if got := stop(); !slices.Equal(got, []string{"a", "b"}) || Armed() {
		t.Errorf("passed %q, armed %v", got, Armed())
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	s := fromEnvironment("a=ENOSPC@2", log, "")
	if err := s.pass("a"); err != nil {
		t.Errorf("the first time: %v", err)
	}
	if err := s.pass("a"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the second time: %v", err)
	}
	if got, err := os.ReadFile(log); string(got) != "a\na\n" {
		t.Errorf("log %q, %v", got, err)
	}
	if s := fromEnvironment("nonsense", "", ""); s != nil {
		t.Errorf("nonsense arms %+v", s.fault)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "fault")
	s := fromEnvironment("", "", file)
	for _, c := range []struct {
		text  string
		fails []bool
	}{
		{"", []bool{false}},
		{"a=EBUSY@2", []bool{false, true, false}},
		{"a=EBUSY", []bool{true, false}},
		{"none", []bool{false}},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for i, fails := range c.fails {
			if err := s.pass("a"); (err != nil) != fails {
				t.Errorf("%q, time %d: %v", c.text, i+1, err)
			}
		}
	}
}
