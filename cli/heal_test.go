package cli_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/cli"
)

// TestHealStatusFormat: a template has the names that the API has, as the help's own
// example does; a name that is none is refused by that name.
func TestHealStatusFormat(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(socketDir(t), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/fairlead/v1/heal" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"paused":false,"counts":{"bridge":0,"veth":3},"pending":["x"],"last":[{"time":"2026-01-02T03:04:05Z","kind":"veth","what":"w","took":5000000}]}`)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	run := func(args ...string) (out, errs string) {
		var o, e bytes.Buffer
		cli.Main(context.Background(), append([]string{"-H", "unix://" + socket, "heal", "status"}, args...), cli.Streams{Out: &o, Err: &e}, cli.Build{})
		return o.String(), e.String()
	}
	help, _ := run("--help")
	example := regexp.MustCompile(`heal status -f '([^']+)'`).FindStringSubmatch(help)
	if example == nil {
		t.Fatalf("the help has no example:\n%s", help)
	}
	for format, want := range map[string]string{
		example[1]:                        "3\n",
		"{{.counts.bridge}}":              "0\n",
		"{{.paused}} {{.pending}}":        "false [x]\n",
		"{{(index .last 0).what}}":        "w\n",
		"{{range .last}}{{.kind}}{{end}}": "veth\n",
	} {
		if out, errs := run("-f", format); out != want || errs != "" {
			t.Errorf("%s prints %q, wanted %q; it says %q", format, out, want, errs)
		}
	}
	for _, format := range []string{"{{.Counts.veth}}", "{{.counts.vets}}"} {
		out, errs := run("-f", format)
		if out != "" || !strings.Contains(errs, "map has no entry for key") {
			t.Errorf("%s prints %q and says %q", format, out, errs)
		}
	}
	if out, _ := run(); !strings.Contains(out, "Put back: veth 3\n") || strings.Contains(out, "bridge") {
		t.Errorf("it prints\n%s", out)
	}
}
