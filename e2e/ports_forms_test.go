package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/lab"
)

// published are the container's ports as inspect has them: "80/tcp 0.0.0.0:8080".
// An ephemeral port, one of the host's range, is a star.
func (s *site) published(id string) []string {
	s.t.Helper()
	var out []string
	ports := s.inspect(id).NetworkSettings.Ports
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		if len(ports[port]) == 0 {
			out = append(out, port)
		}
		for _, b := range ports[port] {
			host := b.HostPort
			if len(host) == 5 && host >= "32768" && host <= "60999" {
				host = "*"
			}
			out = append(out, port+" "+at(b.HostIp, host))
		}
	}
	return out
}

// portsAskedFor is what a client made of its flags -p.
func (s *site) portsAskedFor(id string) (ports struct {
	Config     struct{ ExposedPorts map[string]struct{} }
	HostConfig struct {
		PortBindings    map[string][]struct{ HostIp, HostPort string }
		PublishAllPorts bool
	}
},
) {
	s.t.Helper()
	raw, err := s.post(http.MethodGet, "/containers/"+id+"/json", nil, http.StatusOK)
	if err == nil {
		err = json.Unmarshal(raw, &ports)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return ports
}

// TestPortForms: every form of -p publishes what it says, by both clients. Of what both
// ask for in the same words, one is started.
func TestPortForms(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.importImage("web", "EXPOSE 80", "EXPOSE 443/tcp 53/udp")
	wild := func(port, host string) []string { return []string{port + " 0.0.0.0:" + host, port + " [::]:" + host} }
	for _, c := range []struct {
		name  string
		flags string
		want  []string
	}{
		{"container port", "-p 80", wild("80/tcp", "*")},
		{"port 0", "-p 0:80", wild("80/tcp", "*")},
		{"host and container port", "-p 8001:80", wild("80/tcp", "8001")},
		{"UDP", "-p 8001:80/udp", wild("80/udp", "8001")},
		{"both protocols", "-p 8001:80 -p 8001:80/udp", append(wild("80/tcp", "8001"), wild("80/udp", "8001")...)},
		{"address", "-p 127.0.0.1:8001:80", []string{"80/tcp 127.0.0.1:8001"}},
		{"address, any port", "-p 127.0.0.1::80", []string{"80/tcp 127.0.0.1:*"}},
		{"IPv6 address", "-p [::1]:8001:80/udp", []string{"80/udp [::1]:8001"}},
		{"IPv6 address, any port", "-p [" + host6 + "]::80", []string{"80/tcp [" + host6 + "]:*"}},
		{"every IPv4 address", "-p 0.0.0.0:8001:80", []string{"80/tcp 0.0.0.0:8001"}},
		{"every IPv6 address", "-p [::]:8001:80", []string{"80/tcp [::]:8001"}},
		{"several addresses", "-p 127.0.0.1:8001:80 -p " + host4 + ":8001:80 -p [::1]:8001:80 -p " + second4 + ":8002:80", []string{
			"80/tcp 127.0.0.1:8001", "80/tcp " + host4 + ":8001", "80/tcp [::1]:8001", "80/tcp " + second4 + ":8002",
		}},
		{"several ports", "-p 8001:80 -p 8002:80", append(wild("80/tcp", "8001"), wild("80/tcp", "8002")...)},
		{"ranges", "-p 8001-8002:80-81", append(wild("80/tcp", "8001"), wild("81/tcp", "8002")...)},
		{"a range on an address", "-p 127.0.0.1:8001-8002:80-81/udp", []string{"80/udp 127.0.0.1:8001", "81/udp 127.0.0.1:8002"}},
		{"any of a range", "-p 8001-8005:80", wild("80/tcp", "8001")},
		{"container ports alone", "-p 80-81", append(wild("80/tcp", "*"), wild("81/tcp", "*")...)},
		{"all that is exposed", "-P", append(append(wild("443/tcp", "*"), wild("53/udp", "*")...), wild("80/tcp", "*")...)},
		{"all, one of them by name", "-P -p 8001:80", append(append(wild("443/tcp", "*"), wild("53/udp", "*")...), wild("80/tcp", "8001")...)},
		{"all, with more exposed", "-P --expose 9000-9001/udp -p 80", slices.Concat(wild("443/tcp", "*"), wild("53/udp", "*"), wild("80/tcp", "*"), wild("9000/udp", "*"), wild("9001/udp", "*"))},
	} {
		args := append(strings.Fields(c.flags), "web", "sleep", "3600")
		check := func(client, id string) {
			t.Helper()
			got := slices.DeleteFunc(s.published(id), func(p string) bool { return !strings.Contains(p, " ") })
			slices.Sort(got)
			want := slices.Sorted(slices.Values(c.want))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s (%s) (-want +got):\n%s", client, c.name, c.flags, diff)
			}
		}
		id := s.Must(append([]string{"run", "-d"}, args...)...)
		check("fairlead", id)
		docker := s.mustDocker(append([]string{"create"}, args...)...)
		same := cmp.Equal(s.portsAskedFor(id), s.portsAskedFor(docker))
		s.Must("rm", "-f", id)
		if !same {
			s.Must("start", docker)
			check("docker", docker)
		}
		s.Must("rm", "-f", docker)
	}
	s.consistent()
}

// TestPortConflicts: a port that is taken is refused in Docker's words, whoever has
// it, and one that only looks like it is not.
func TestPortConflicts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.idle("--name", "web", "-p", "8080:80", "-p", host4+":8081:80", "-p", "127.0.0.1:8082:80")
	s.host.Start("busybox", "nc", "-l", "-p", "9090")
	eventually(t, "nc listens", func() bool {
		return s.host.Try("busybox", "nc", "-z", "127.0.0.1", "9090").Code == 0 || strings.Contains(s.host.Run("ss", "-Hltn"), ":9090")
	})
	for _, c := range []struct{ flags, want string }{
		{"-p 8080:81", "0.0.0.0:8080 failed: port is already allocated by container web"},
		{"-p 127.0.0.1:8080:81", "127.0.0.1:8080 failed: port is already allocated by container web"},
		{"-p [::1]:8080:81", "[::1]:8080 failed: port is already allocated by container web"},
		{"-p 8081:81", "0.0.0.0:8081 failed: port is already allocated by container web"},
		{"-p 7000:80 -p 7000:81", "port is already allocated by this container"},
		{"-p 7000:80 -p 127.0.0.1:7000:80", "port is already allocated by this container"},
		{"-p 7000-7001:80-81 -p 7001:82", "port is already allocated by this container"},
		{"-p 8080-8080:81", "port is already allocated by container web"},
		{"-p " + host4 + ":9999:80 -p 192.0.2.99:9999:80", "192.0.2.99:9999/tcp: cannot assign requested address"},
		{"-p [2001:db8::99]:9999:80", "[2001:db8::99]:9999/tcp: cannot assign requested address"},
		{"-p 7000:80/sctp", "port 80/sctp cannot be published: this host's kernel has no SCTP"},
	} {
		before := s.host.Run("nft", "list", "ruleset")
		_, stderr, code := s.CLI(append(append([]string{"run", "-d"}, strings.Fields(c.flags)...), "demo", "sleep", "3600")...)
		if code != 125 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, %s, want %q", c.flags, code, stderr, c.want)
		}
		if after := s.host.Run("nft", "list", "ruleset"); after != before {
			t.Errorf("%s: refused, and the rules changed", c.flags)
		}
	}
	for _, flags := range []string{"-p 8080:80/udp", "-p " + second4 + ":8081:80", "-p 127.0.0.2:8082:80", "-p " + host4 + ":8082:80", "-p 8080-8085:80"} {
		s.Must("rm", "-f", s.Must(append(append([]string{"run", "-d"}, strings.Fields(flags)...), "demo", "sleep", "3600")...))
	}
	s.consistent()
}

// TestPortsByAPI: the API takes what clients send, and says what is wrong with the
// rest.
func TestPortsByAPI(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	create := func(bindings string) (id, message string) {
		t.Helper()
		body := `{"Image": "demo", "Cmd": ["sleep", "3600"], "HostConfig": {"PortBindings": ` + bindings + `}}`
		resp, err := s.HTTP().Post("http://fairlead/v1.51/containers/create", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer struct{ Id, Message string }
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		if (resp.StatusCode == http.StatusCreated) != (answer.Id != "") || resp.StatusCode >= 500 {
			t.Errorf("%s: status %s", bindings, resp.Status)
		}
		return answer.Id, answer.Message
	}
	for bindings, want := range map[string][]string{
		`{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`:      {"80/tcp 0.0.0.0:8080", "80/tcp [::]:8080"},
		`{"80/tcp": [{"HostPort": "8080-8090"}]}`:               {"80/tcp 0.0.0.0:8080", "80/tcp [::]:8080"},
		`{"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}`: {"80/tcp 127.0.0.1:*"},
		`{"80/tcp": [{"HostIp": "::1", "HostPort": "0"}]}`:      {"80/tcp [::1]:*"},
		`{"80/udp": [{"HostPort": "81"}, {"HostPort": "82"}]}`:  {"80/udp 0.0.0.0:81", "80/udp 0.0.0.0:82", "80/udp [::]:81", "80/udp [::]:82"},
		`{"80/tcp": []}`:   nil,
		`{"80/tcp": null}`: nil,
	} {
		id, message := create(bindings)
		if id == "" {
			t.Errorf("%s: %s", bindings, message)
			continue
		}
		s.Must("start", id)
		got := slices.DeleteFunc(s.published(id), func(p string) bool { return !strings.Contains(p, " ") })
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", bindings, diff)
		}
		s.Must("rm", "-f", id)
	}
	for bindings, want := range map[string]string{
		`{"80/tcp": [{"HostPort": "x"}]}`:                        `"x"`,
		`{"80/tcp": [{"HostPort": "70000"}]}`:                    "70000",
		`{"80/tcp": [{"HostPort": "9-8"}]}`:                      "9-8",
		`{"80/tcp": [{"HostPort": "0-5"}]}`:                      "0-5",
		`{"80/tcp": [{"HostIp": "nohost", "HostPort": "8080"}]}`: "nohost",
		`{"80/icmp": [{"HostPort": "8080"}]}`:                    "icmp",
		`{"0/tcp": [{"HostPort": "8080"}]}`:                      "0",
		`{"99999/tcp": [{"HostPort": "8080"}]}`:                  "99999",
	} {
		if id, message := create(bindings); id != "" || !strings.Contains(message, want) {
			t.Errorf("%s: made %q, message %q, want %q", bindings, id, message, want)
		}
	}
}

// TestHostBinding: a network's own host address is where ports published without one
// are, and nowhere else; one that names an address has its way.
func TestHostBinding(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4="+second4, "bound")
		b := s.idle("--network", "bound", "-p", "8080:80", "-p", "8080:80/udp", "-p", host4+":8081:80", "-p", "0.0.0.0:8082:80")
		b.both("80")
		want := []string{"80/tcp " + second4 + ":8080", "80/tcp 0.0.0.0:8082", "80/tcp " + host4 + ":8081", "80/udp " + second4 + ":8080"}
		got := s.published(b.id)
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		var pairs [][2]lab.Probe
		for _, proto := range []string{"tcp", "udp"} {
			b.sees(s.outside, proto, at(second4, "8080"), outside4)
			pairs = append(pairs,
				[2]lab.Probe{from(s.outside, proto, at(host4, "8080")), from(s.outside, proto, at(second4, "8080"))},
				[2]lab.Probe{from(s.outside, proto, at(host6, "8080")), from(s.outside, proto, at(second4, "8080"))})
		}
		b.sees(s.outside, "tcp", at(host4, "8081"), outside4)
		b.sees(s.outside, "tcp", at(second4, "8082"), outside4)
		barred(t, pairs...)
		s.consistent()
	})
}
