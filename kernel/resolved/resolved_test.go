package resolved_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/lab/resolvedtest"
	"github.com/fairlead/fairlead/kernel/resolved"
)

func TestRoutes(t *testing.T) {
	r := resolvedtest.Start(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", r.Address)
	c, err := resolved.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := func(text string) {
		t.Helper()
		got, err := c.Routes(t.Context())
		if err != nil || fmt.Sprint(got) != text {
			t.Errorf("routes are %v, %v; want %s", got, err, text)
		}
	}
	told := func() {
		t.Helper()
		select {
		case <-c.Changed():
			time.Sleep(50 * time.Millisecond) // both properties
		case <-time.After(5 * time.Second):
			t.Error("no change was told")
		}
	}
	want("[]")
	servers := []resolvedtest.Server{
		resolvedtest.At(0, "192.0.2.1:53"), resolvedtest.At(2, "192.0.2.2:53"), resolvedtest.At(2, "[fe80::2]:53"),
		resolvedtest.At(3, "192.0.2.3:5353"),
		{Link: 4, Family: 2, Addr: []byte{192, 0, 2, 4}},
		{Link: 5, Addr: []byte{1, 2, 3}},
	}
	r.Set(servers, []resolvedtest.Domain{
		{Link: 0, Name: "searched.example"},
		{Link: 2, Name: "corp.example"},
		{Link: 2, Name: "Lab.Example.", RouteOnly: true},
		{Link: 3, Name: "corp.example", RouteOnly: true},
		{Link: 4, Name: ".", RouteOnly: true},
		{Link: 5, Name: "unreadable.example"},
		{Link: 6, Name: "no.servers"},
	})
	told()
	want("[{ [192.0.2.4:53]} {corp.example [192.0.2.2:53 [fe80::2%2]:53 192.0.2.3:5353]} {lab.example [192.0.2.2:53 [fe80::2%2]:53]}]")
	if err := r.Leave(); err != nil {
		t.Fatal(err)
	}
	told()
	want("[]")
}

func TestWithoutABus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus")
	if _, err := resolved.Dial(context.Background()); !errdefs.IsNotFound(err) {
		t.Errorf("without a bus: %v", err)
	}
}
