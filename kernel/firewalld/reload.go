package firewalld

import (
	"context"
	"errors"
	"reflect"

	"github.com/godbus/dbus/v5"
)

// reload has firewalld read its permanent configuration, and puts back what others
// had changed of its zones and policies for the time being: firewalld itself forgets
// that. Its direct rules and the entries of its sets that are not permanent are lost.
func (c *Conn) reload(ctx context.Context) error {
	zones := c.settings(ctx, zoneInterface, "getZones", "getZoneSettings2")
	policies := c.settings(ctx, policyInterface, "getPolicies", "getPolicySettings")
	if err := c.call(ctx, service, "reload").Err; err != nil {
		return wrap("reload", err)
	}
	return errors.Join(
		c.putBack(ctx, zoneInterface, "getZoneSettings2", "setZoneSettings2", zones),
		c.putBack(ctx, policyInterface, "getPolicySettings", "setPolicySettings", policies),
	)
}

type settings map[string]dbus.Variant

// settings reads the settings of each zone, or policy; versions that cannot tell
// have none.
func (c *Conn) settings(ctx context.Context, in, list, get string) map[string]settings {
	var names []string
	if c.call(ctx, in, list).Store(&names) != nil {
		return nil
	}
	out := make(map[string]settings)
	for _, name := range names {
		var s settings
		if c.call(ctx, in, get, name).Store(&s) == nil {
			out[name] = s
		}
	}
	return out
}

func (c *Conn) putBack(ctx context.Context, in, get, set string, before map[string]settings) error {
	var errs []error
	for name, was := range before {
		var now settings
		err := c.call(ctx, in, get, name).Store(&now)
		if missing(err) {
			continue // its owner removed it
		}
		changed := make(map[string]any)
		if err == nil {
			changed, err = difference(was, now)
		}
		if err == nil && len(changed) > 0 {
			err = c.call(ctx, in, set, name, changed).Err
		}
		if err != nil {
			errs = append(errs, wrap("put "+name+" back as it was before the reload", err))
		}
	}
	return errors.Join(errs...)
}

type (
	port        struct{ Port, Protocol string }
	forwardPort struct{ Port, Protocol, ToPort, ToAddr string }
)

// changeable are the settings that can be changed for the time being, with a new
// value of the type that each has to be sent as.
var changeable = map[string]func() any{
	"services": list[string], "protocols": list[string], "icmp_blocks": list[string],
	"interfaces": list[string], "sources": list[string], "rules_str": list[string], "rich_rules": list[string],
	"ingress_zones": list[string], "egress_zones": list[string],
	"ports": list[port], "source_ports": list[port], "forward_ports": list[forwardPort],
	"masquerade": func() any { return new(bool) }, "forward": func() any { return new(bool) },
	"icmp_block_inversion": func() any { return new(bool) },
}

func list[T any]() any { return new([]T) }

// difference is what of the settings was otherwise.
func difference(was, now settings) (map[string]any, error) {
	out := make(map[string]any)
	for key, fresh := range changeable {
		old, current := fresh(), fresh()
		for into, from := range map[any]settings{old: was, current: now} {
			if v, ok := from[key]; ok {
				if err := v.Store(into); err != nil {
					return nil, err
				}
			}
		}
		a, b := reflect.ValueOf(old).Elem(), reflect.ValueOf(current).Elem()
		empty := a.Kind() == reflect.Slice && a.Len()+b.Len() == 0
		if !empty && !reflect.DeepEqual(a.Interface(), b.Interface()) {
			out[key] = a.Interface()
		}
	}
	return out, nil
}
