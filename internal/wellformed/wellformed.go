// Package wellformed finds in what came from outside what no program below could make
// anything of: in decoded JSON null as an element of a list of objects, strings with a
// NUL, which end there for the kernel, and addresses with a zone that is none; and text
// that is to be a host's name and cannot.
package wellformed

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Check returns errdefs.ErrInvalidArgument with the path, in the names of JSON, of
// something in v that is malformed.
func Check(v any) error { return check("", reflect.ValueOf(v)) }

func check(at string, v reflect.Value) error {
	if a, is := reflect.TypeAssert[netip.Addr](v); is {
		if err := Addr(a); err != nil {
			return fmt.Errorf("invalid value of %s: %w", name(at), err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return check(at, v.Elem())
		}
	case reflect.String:
		if strings.ContainsRune(v.String(), 0) {
			return fmt.Errorf("invalid value of %s: %q has a NUL in it: %w", name(at), v.String(), errdefs.ErrInvalidArgument)
		}
	case reflect.Slice, reflect.Array:
		return list(at, v)
	case reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			if err := check(at, entries.Key()); err != nil {
				return err
			}
			if err := check(join(at, fmt.Sprint(entries.Key())), entries.Value()); err != nil {
				return err
			}
		}
	case reflect.Struct:
		return fields(at, v)
	default: // numbers and the like are well-formed
	}
	return nil
}

func list(at string, v reflect.Value) error {
	if kind := v.Type().Elem().Kind(); kind == reflect.Uint8 {
		return nil // bytes
	}
	for i := range v.Len() {
		element, here := v.Index(i), at+"["+strconv.Itoa(i)+"]"
		if element.Kind() == reflect.Pointer && element.IsNil() {
			return fmt.Errorf("invalid value of %s: it is null: %w", name(here), errdefs.ErrInvalidArgument)
		}
		if err := check(here, element); err != nil {
			return err
		}
	}
	return nil
}

// fields checks those that JSON has: what is not exported is the type's own matter.
func fields(at string, v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		here := at
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag != "":
			here = join(at, tag)
		case !f.Anonymous:
			here = join(at, f.Name)
		}
		if err := check(here, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

func name(at string) string {
	if at == "" {
		return "the whole"
	}
	return at
}
