package format_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/cli/format"
)

type row struct{ ID, Name string }

func (r row) Label(key string) string { return "<" + key + ">" }

var listing = format.Listing[row]{
	Default: "{{.ID}}\t{{.Name}}",
	Header:  row{"ROW ID", "NAME"},
}

func TestListing(t *testing.T) {
	t.Parallel()
	rows := []row{{"1", "a"}, {"22222222222222", "b"}}
	tests := []struct {
		name, spec, want string
		rows             []row
	}{
		{"default", "", "ROW ID           NAME\n1                a\n22222222222222   b\n", rows},
		{"default by name", "table", "ROW ID           NAME\n1                a\n22222222222222   b\n", rows},
		{"no rows", "", "ROW ID    NAME\n", nil},
		{"own columns", `table {{.Name}}\t{{.ID}}`, "NAME      ROW ID\na         1\nb         22222222222222\n", rows},
		{"template", "{{.Name}}={{.ID}}", "a=1\nb=22222222222222\n", rows},
		{"method", `{{.Label "x"}}`, "<x>\n<x>\n", rows},
		{"function", `{{upper .Name}}{{json .ID}}`, "A\"1\"\nB\"22222222222222\"\n", rows},
		{"title and pad", `{{title .Name}}<{{pad .Name 1 2}}>`, "A< a  >\nB< b  >\n", rows},
		{"json", "json", `{"ID":"1","Name":"a"}` + "\n" + `{"ID":"22222222222222","Name":"b"}` + "\n", rows},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if err := listing.Write(&out, tt.spec, tt.rows); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestListingErrors(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"{{.Nope}}":  "Nope",
		"{{.Name":    "invalid --format: ",
		"{{nope .}}": `function "nope" not defined`,
	} {
		err := listing.Write(&strings.Builder{}, spec, []row{{"1", "a"}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", spec, err, want)
		}
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	published := func(ip netip.Addr, public, private uint16) container.PortSummary {
		return container.PortSummary{IP: ip, PublicPort: public, PrivatePort: private, Type: "tcp"}
	}
	exposed := func(port uint16, proto string) container.PortSummary {
		return container.PortSummary{PrivatePort: port, Type: proto}
	}
	tests := []struct {
		name string
		in   []container.PortSummary
		want string
	}{
		{"none", nil, ""},
		{"exposed", []container.PortSummary{exposed(80, "tcp")}, "80/tcp"},
		{
			"both families",
			[]container.PortSummary{published(v6, 8080, 80), published(v4, 8080, 80)},
			"0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
		},
		{
			"same number",
			[]container.PortSummary{exposed(443, "tcp"), published(v4, 80, 80), exposed(22, "tcp")},
			"22/tcp, 443/tcp, 0.0.0.0:80->80/tcp",
		},
		{"ranges", []container.PortSummary{
			published(v4, 8002, 8002), published(v4, 8000, 8000), published(v4, 8001, 8001), published(v4, 9000, 9000),
			exposed(53, "udp"), exposed(53, "tcp"), exposed(54, "tcp"),
		}, "0.0.0.0:8000-8002->8000-8002/tcp, 53-54/tcp, 53/udp, 0.0.0.0:9000->9000/tcp"},
		{"IPv6 address", []container.PortSummary{published(netip.MustParseAddr("::1"), 80, 80)}, "[::1]:80->80/tcp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, format.Ports(tt.in)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	if got := format.ShortID("sha256:0123456789abcdef"); got != "0123456789ab" {
		t.Error(got)
	}
	if got := format.ShortID("abc"); got != "abc" {
		t.Error(got)
	}
	if got := format.Ellipsis("httpd -f -p 80 -h /www", 20); got != "httpd -f -p 80 -h /…" {
		t.Error(got)
	}
	if got := format.Ellipsis("日本語テキスト", 4); got != "日本語…" {
		t.Error(got)
	}
}
