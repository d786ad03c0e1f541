package e2e

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/lab"
)

// picture is what a person can see of the daemon and its host.
func (s *site) picture() string {
	s.t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Ports}} {{.State}}"},
		{"network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"},
		{"images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"},
	} {
		b.WriteString(s.Must(args...) + "\n")
	}
	for _, command := range [][]string{
		{"nft", "--stateless", "list", "ruleset"},
		{"ip", "route"},
		{"ip", "-6", "route"},
		{"ip", "rule"},
		{"sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"},
	} {
		for line := range strings.Lines(s.host.Run(command[0], command[1:]...)) {
			// The kernel's own addresses, and a bridge's state, come and go by themselves.
			b.WriteString(passing.ReplaceAllString(line, ""))
		}
	}
	for line := range addresses(s.host) {
		b.WriteString(passing.ReplaceAllString(line, ""))
	}
	for _, dir := range []string{"netns", "state/leases", "state/journal"} {
		names, _ := filepath.Glob(filepath.Join(s.ExecRoot, dir, "*"))
		b.WriteString(dir + ": " + strings.Join(names, " ") + "\n")
	}
	return b.String()
}

// passing is what changes on a host by itself.
var passing = regexp.MustCompile(` (UP|DOWN) +| fe80::\S*|^fe80::.*\n| linkdown`)

// refusal is a command that is to be refused: with that exit code, and words that
// the regular expression finds.
type refusal struct {
	name, args string
	code       int
	says       string
}

// between is how many refusals there are from one look at the host to the next, which
// starts a dozen programs. What one leaves behind is there then, too.
const between = 10

// refuses runs the commands and fails the test if one is not refused as it should
// be, or leaves anything changed. In args a word may be quoted with ', and \n in it
// is a newline.
func (s *site) refuses(refusals []refusal) {
	s.t.Helper()
	before := s.picture()
	for i, r := range refusals {
		var args []string
		for _, m := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(r.args, -1) {
			args = append(args, strings.ReplaceAll(strings.Trim(m, "'"), `\n`, "\n"))
		}
		stdout, stderr, code := s.CLI(args...)
		if code != r.code || !regexp.MustCompile(r.says).MatchString(stderr) {
			s.t.Errorf("%s: %s: exit code %d, want %d\n%s%s\twant: %s", r.name, r.args, code, r.code, stdout, stderr, r.says)
		}
		first, _, _ := strings.Cut(stderr, "\n")
		if !strings.HasPrefix(first, "fairlead: ") || len(first) < 20 {
			s.t.Errorf("%s: the first line is no message of ours: %q", r.name, first)
		}
		if i%between != between-1 && i != len(refusals)-1 {
			continue
		}
		if now := s.picture(); now != before {
			s.t.Errorf("of the %d up to %s: %s one changed something:\n%s", between, r.name, r.args, cmp.Diff(before, now))
			before = now
		}
	}
	s.consistent()
}

// TestRefused: bad input gets a clear error and changes nothing.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--subnet", "10.30.0.0/24", "--label", "a=b", "mine")
	taken := s.idle("--name", "taken", "--network", "mine", "--ip", "10.30.0.10", "-p", "8080:80", "-p", "127.0.0.1:8081:80/udp")
	s.Must("run", "--name", "stopped", "demo", "true")
	s.host.Start("busybox", "nc", "-ll", "-p", "9090", "-e", "true")
	lab.Reachable(t, s.host, "tcp", "127.0.0.1:9090")
	s.refuses([]refusal{
		{"unknown image", "run --pull never nosuch true", 125, `No such image: nosuch`},
		{"unknown image, detached", "run -d --pull never nosuch true", 125, `No such image: nosuch`},
		{"no command", "run --entrypoint '' demo", 125, `no command specified`},
		{"name in use", "run --name taken demo true", 125, `name "/taken" is already in use by container "` + taken.id},
		{"port of another container", "run -p 8080:80 demo true", 125, `0\.0\.0\.0:8080 failed: port is already allocated by container taken`},
		{"the same, detached", "run -d -p 8080:80 demo true", 125, `8080 .*container taken`},
		{"the same, on one address", "run -p 127.0.0.1:8080:80 demo true", 125, `127\.0\.0\.1:8080 .*container taken`},
		{"the wildcard over one address", "run -p 8081:80/udp demo true", 125, `8081 .*container taken`},
		{"port of a program", "run -d -p 9090:80 demo true", 125, `9090/tcp: address already in use by busybox \(process \d+\)`},
		{"the same port twice", "run -p 7070:80 -p 7070:81 demo true", 125, `7070`},
		{"address that is not the host's", "run -p 192.0.2.77:80:80 demo true", 125, `192\.0\.2\.77:80/tcp: cannot assign requested address`},
		{"address outside the subnet", "run --network mine --ip 10.31.0.9 demo true", 125, `no configured subnet contains IP address 10\.31\.0\.9`},
		{"address in use", "run --network mine --ip 10.30.0.10 demo true", 125, `10\.30\.0\.10.*in use`},
		{"address of the gateway", "run --network mine --ip 10.30.0.1 demo true", 125, `10\.30\.0\.1.*in use`},
		{"broadcast address", "run --network mine --ip 10.30.0.255 demo true", 125, `10\.30\.0\.255`},
		{"MAC in use", "run --network mine --mac-address 02:42:0a:1e:00:0a demo true", 125, `02:42:0a:1e:00:0a is in use on network mine`},
		{"address on the default network", "run --ip 172.17.0.9 demo true", 125, `user specified IP address is supported on user defined networks only`},
		{"IPv6 address on a network without", "run --network mine --ip6 fd00::9 demo true", 125, `network mine: no configured subnet contains IP address fd00::9`},
		{"no address at all", "run --network mine --ip ten demo true", 125, `invalid --ip "ten"`},
		{"pool overlap", "network create --subnet 10.30.0.128/25 n", 1, `Pool overlaps .*10\.30\.0\.128/25 overlaps network mine`},
		{"pool overlap, wider", "network create --subnet 10.0.0.0/8 n", 1, `Pool overlaps .*overlaps network`},
		{"host bits", "network create --subnet 10.50.0.1/24 n", 1, `it should be 10\.50\.0\.0/24`},
		{"no CIDR", "network create --subnet nonsense n", 125, `invalid --subnet "nonsense"`},
		{"mask too long", "network create --subnet 10.1.2.0/33 n", 125, `invalid --subnet "10\.1\.2\.0/33"`},
		{"too small", "network create --subnet 10.1.2.0/32 n", 1, `10\.1\.2\.0/32`},
		{"gateway outside", "network create --subnet 10.1.2.0/24 --gateway 10.1.3.1 n", 125, `10\.1\.3\.1 is in no --subnet`},
		{"gateway that is the network", "network create --subnet 10.1.2.0/24 --gateway 10.1.2.0 n", 1, `10\.1\.2\.0`},
		{"range outside", "network create --subnet 10.1.2.0/24 --ip-range 10.1.3.0/25 n", 125, `10\.1\.3\.0/25 is in no --subnet`},
		{"network's name with /", "network create a/b", 1, `invalid network name "a/b"`},
		{"with a newline", `network create 'a\nb'`, 1, `invalid network name "a\\nb"`},
		{"with nft syntax", "network create 'a; flush ruleset'", 1, `invalid network name "a; flush ruleset"`},
		{"with a quote", `network create '"} ; drop'`, 1, `invalid network name`},
		{"that is taken", "network create mine", 1, `network with name mine already exists`},
		{"that is predefined", "network create bridge", 1, `predefined bridge network`},
		{"that is empty", "network create ''", 1, `name`},
		{"another driver", "network create -d overlay n", 1, `driver "overlay"`},
		{"unknown option", "network create -o com.example.x=1 n", 1, `com\.example\.x`},
		{"bridge's name with nft syntax", "network create -o 'com.docker.network.bridge.name=x;y' n", 1, `x;y`},
		{"container's name with /", "run --name a/b demo true", 125, `invalid container name "a/b"`},
		{"with a newline", `run --name 'a\nb' demo true`, 125, `invalid container name "a\\nb"`},
		{"with nft syntax", `run --name 'x"; drop' demo true`, 125, `invalid container name`},
		{"host port range from 0", "run -p 0-5:80 demo true", 125, `0-5 begins with 0`},
		{"container port 0", "run -p 80:0 demo true", 125, `container port 0`},
		{"host port 65536", "run -p 65536:80 demo true", 125, `host port 65536 is out of range`},
		{"container port 65536", "run -p 80:65536 demo true", 125, `container port 65536 is out of range`},
		{"ranges of unequal length", "run -p 8000-8002:9000-9001 demo true", 125, `3 host ports .* 2 container ports`},
		{"range backwards", "run -p 8002-8000:9000-9002 demo true", 125, `8002-8000 ends before it starts`},
		{"protocol", "run -p 80:80/icmp demo true", 125, `protocol "icmp"`},
		{"host address", "run -p 300.1.1.1:80:80 demo true", 125, `"300\.1\.1\.1" is not an IP address`},
		{"no number", "run -p x:80 demo true", 125, `"x" is not a number`},
		{"network with endpoints", "network rm mine", 1, `network mine .*has active endpoints \(taken\)`},
		{"predefined network", "network rm bridge", 1, `bridge is a pre-defined network and cannot be removed`},
		{"unknown network", "network rm nosuch", 1, `network nosuch not found`},
		{"unknown network to inspect", "network inspect nosuch", 1, `nosuch`},
		{"unknown network to run on", "run --network nosuch demo true", 125, `network nosuch not found`},
		{"joining a stopped container", "run --network container:stopped demo true", 125, `cannot join network of a non running container`},
		{"joining an unknown container", "run --network container:nosuch demo true", 125, `No such container: nosuch`},
		{"joining and publishing", "run --network container:taken -p 80:80 demo true", 125, `port publishing and the container type network mode`},
		{"starting the unknown", "start nosuch", 1, `No such container: nosuch`},
		{"removing one that runs", "rm taken", 1, `[Cc]annot remove a running container`},
		{"exec in one that is stopped", "exec stopped true", 1, `is not running`},
		{"image in use", "rmi demo", 1, `unable to remove .*demo`},
		{"relative directory", "run -w relative demo true", 125, `'relative' is invalid, it needs to be an absolute path`},
		{"environment", "run -e =x demo true", 125, `invalid environment variable`},
		{"sysctl of the machine", "run --sysctl kernel.threads-max=1 demo true", 125, `kernel.threads-max`},
		{"signal", "kill -s FOO taken", 1, `invalid signal: FOO`},
		{"user", "run -u nobodyhere demo true", 125, `nobodyhere`},
		{"command", "frobnicate", 1, `"frobnicate" is not a fairlead command`},
		{"flag", "run --nosuch demo true", 125, `unknown flag: --nosuch`},
		{"no daemon there", "-H unix:///nonexistent.sock run demo true", 125, `no daemon answers at unix:///nonexistent\.sock`},
	})
}

// TestBridgeFull: a bridge takes 1,023 ports; the next container is refused with
// words that say so, and nothing changes.
func TestBridgeFull(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var batch strings.Builder
	for i := range 511 {
		batch.WriteString("link add f" + itoa(i) + " group 9 type veth peer name g" + itoa(i) + "\n")
	}
	// Both ends are ports, down lest they make a ring.
	for i := range 511 {
		batch.WriteString("link set f" + itoa(i) + " master fairlead0\nlink set g" + itoa(i) + " master fairlead0\n")
	}
	file := filepath.Join(s.lab.Dir("batch"), "ip")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.host.Run("ip", "-batch", file)
	s.idle() // the 1,023rd
	s.refuses([]refusal{{"full bridge", "run demo true", 125, `bridge fairlead0 is full: a Linux bridge takes 1023 ports; use another network`}})
	s.host.Run("ip", "link", "del", "group", "9")
	s.Must("run", "--rm", "demo", "true")
}

// TestMissingPrivileges: who is not root is told so, by the daemon and by the
// command line.
func TestMissingPrivileges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	program := filepath.Join(s.lab.Dir("bin"), "fairlead")
	copyFile(t, lab.Binary(t), program)
	asNobody := []string{"--reuid=65534", "--regid=65534", "--clear-groups", program}
	r := s.host.Try("setpriv", append(asNobody, "daemon", "--data-root", "/tmp/none", "--exec-root", "/tmp/none")...)
	if r.Code != 1 || !strings.Contains(r.Stderr, "the daemon needs root") {
		t.Errorf("daemon: exit status %d, %s", r.Code, r.Stderr)
	}
	if _, err := os.Stat("/tmp/none"); !os.IsNotExist(err) {
		t.Errorf("the daemon left %v", err)
	}
	r = s.host.Try("setpriv", append(asNobody, "-H", "unix://"+s.Socket, "ps")...)
	if r.Code != 1 || !strings.Contains(r.Stderr, "may not use the daemon's socket") || !strings.Contains(r.Stderr, s.Socket) {
		t.Errorf("ps: exit status %d, %s", r.Code, r.Stderr)
	}
	// Root without the capabilities, as in a container that is not privileged.
	for _, lacking := range []string{"net_admin", "sys_admin"} {
		dir := s.lab.Dir("lacking-" + lacking)
		r = s.host.Try("setpriv", "--bounding-set=-"+lacking, "--inh-caps=-"+lacking, "--", program, "daemon",
			"--data-root", dir, "--exec-root", filepath.Join(dir, "run"), "--bridge-name", "other0", "--containerd", lab.Containerd(t), "--containerd-namespace", "none")
		if r.Code != 1 || !strings.Contains(strings.ToLower(r.Stderr), "cap_"+lacking) {
			t.Errorf("daemon without %s: exit status %d, %s", lacking, r.Code, r.Stderr)
		}
	}
	s.consistent()
}

// TestKernelWithoutNftables: on a kernel without nf_tables the daemon does not
// start, and says what is missing. A system call filter plays that kernel.
func TestKernelWithoutNftables(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	dir := s.lab.Dir("d")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := s.host.Command(ctx, self, lab.Binary(t), "daemon", "--data-root", dir, "--exec-root", filepath.Join(dir, "run"),
		"--containerd", lab.Containerd(t), "--containerd-namespace", "none-"+s.lab.ID)
	cmd.Env = append(cmd.Env, withoutNetfilter+"=1")
	r := finish(cmd, nil)
	if r.Code != 1 || !strings.Contains(r.Stderr, "nf_tables") {
		t.Errorf("exit status %d, %s", r.Code, r.Stderr)
	}
	if left := s.host.Run("ip", "-br", "link"); strings.Contains(left, "fairlead") {
		t.Errorf("it left %s", left)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
