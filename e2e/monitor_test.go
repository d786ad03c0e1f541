package e2e

import (
	"bufio"
	"context"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDockerStats: docker stats shows what containers use, once and as it changes,
// and docker top their processes.
func TestDockerStats(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("run", "-d", "--name", "busy", "-m", "64m", "--pids-limit", "50", "demo", "sh", "-c", "sleep 3600 & while :; do :; done")
	s.mustDocker("run", "-d", "--name", "server", "-p", "8080:80", "demo", "httpd", "-f", "-h", "/www")
	s.mustDocker("create", "--name", "idle", "demo", "true")
	eventually(t, "outside gets the page", func() bool {
		return s.outside.Try("busybox", "wget", "-q", "-O-", "http://"+host4+":8080/").Stdout == page
	})
	lines := strings.Split(s.mustDocker("stats", "--no-stream", "--no-trunc", "--format", "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.NetIO}}|{{.PIDs}}"), "\n")
	seen := map[string][]string{}
	for _, l := range lines {
		f := strings.Split(l, "|")
		seen[f[0]] = f
	}
	busy, server := seen["busy"], seen["server"]
	if len(lines) != 2 || len(busy) != 5 || len(server) != 5 {
		t.Fatalf("docker stats: %q", lines)
	}
	if percent, err := strconv.ParseFloat(strings.TrimSuffix(busy[1], "%"), 64); err != nil || percent < 5 || percent > 150 {
		t.Errorf("a busy container uses %s of a processor", busy[1])
	}
	if !strings.HasSuffix(busy[2], "/ 64MiB") || busy[4] != "2" {
		t.Errorf("memory %s, %s processes", busy[2], busy[4])
	}
	if strings.HasPrefix(server[3], "0B") {
		t.Errorf("a server that was asked has moved %s", server[3])
	}
	// Columns of an old client are the same.
	contains(t, "docker stats of one that does not run", s.mustDocker("stats", "--no-stream", "idle"), "idle", "0B / 0B")

	// The stream ends with the client, and shows more than one moment.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := s.host.Command(ctx, dockerClient, "-H", "unix://"+s.Socket, "stats", "--format", "{{.Name}} {{.CPUPerc}}", "busy")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := 0
	for r := bufio.NewScanner(out); shown < 3 && r.Scan(); {
		if strings.Contains(r.Text(), "busy") {
			shown++
		}
	}
	cancel()
	_ = cmd.Wait()
	if shown < 3 {
		t.Errorf("docker stats showed %d moments", shown)
	}

	top := s.mustDocker("top", "busy")
	contains(t, "docker top", top, "UID", "PID", "CMD", "sleep 3600")
	if got := len(strings.Split(top, "\n")); got != 3 || strings.Contains(top, "httpd") {
		t.Errorf("docker top: %s", top)
	}
	if got := strings.Fields(s.mustDocker("top", "server", "-o", "pid")); len(got) != 2 || got[1] != strconv.Itoa(s.inspect("server").State.Pid) {
		t.Errorf("docker top -o pid: %q", got)
	}
	if r := s.docker(nil, "top", "idle"); r.Code == 0 || !strings.Contains(r.Stderr, "is not running") {
		t.Errorf("docker top of one that does not run: %+v", r)
	}
	s.mustDocker("rm", "-f", "busy", "server", "idle")
	s.consistent()
}

// TestDockerCommit: docker diff tells what a container has changed, commit makes an
// image of it and export packs it; df tells what all that takes, and prune takes away
// what has ended.
func TestDockerCommit(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("run", "--name", "made", "-v", "/data", "demo", "sh", "-c", "echo hello > /root/said; rm /etc/noexec; echo v > /data/v; dd if=/dev/zero of=/root/big bs=1024 count=3072 2>/dev/null")
	if got := strings.Fields(s.mustDocker("diff", "made")); strings.Join(got, " ") != "C /etc D /etc/noexec C /root A /root/big A /root/said A /data" && strings.Join(got, " ") != "A /data C /etc D /etc/noexec C /root A /root/big A /root/said" {
		t.Errorf("docker diff: %q", got)
	}
	id := s.mustDocker("commit", "-a", "Ann", "-m", "why", "-c", `CMD ["cat","/root/said"]`, "-c", "ENV A=1", "made", "committed:2")
	if got := s.mustDocker("run", "--rm", "committed:2"); got != "hello" {
		t.Errorf("the image says %q", got)
	}
	if got := s.mustDocker("inspect", "-f", "{{.Id}} {{.Author}} {{.Comment}} {{.Config.Env}}", "committed:2"); !strings.HasPrefix(got, id+" Ann why [") || !strings.Contains(got, "A=1") {
		t.Errorf("docker inspect of the image: %s", got)
	}
	contains(t, "docker history", s.mustDocker("history", "committed:2"), "why")
	r := s.docker(nil, "export", "made")
	if names := " " + archiveNames(t, r.Stdout) + " "; !strings.Contains(names, " root/said ") || strings.Contains(names, " etc/noexec ") || strings.Contains(names, "data/v") {
		t.Errorf("docker export: %.200s", names)
	}
	if r := s.docker([]byte(r.Stdout), "import", "-", "exported"); r.Code != 0 {
		t.Errorf("docker import of an export: %s", r.Stderr)
	}
	if got := s.mustDocker("run", "--rm", "exported", "cat", "/root/said"); got != "hello" {
		t.Errorf("the import says %q", got)
	}
	s.mustDocker("run", "-d", "--name", "runs", "demo", "sleep", "3600")
	df := s.mustDocker("system", "df")
	contains(t, "docker system df", df, "Images          3         1", "Containers      2         1", "Local Volumes   1         1", "Build Cache     0")
	contains(t, "docker system df -v", s.mustDocker("system", "df", "-v"), "committed", "made", "3.18MB", "LINKS")
	contains(t, "docker ps -s", s.mustDocker("ps", "-as", "--format", "{{.Names}} {{.Size}}"), "made 3.1")
	pruned := s.mustDocker("container", "prune", "-f")
	contains(t, "docker container prune", pruned, "Total reclaimed space: 3.1")
	if got := s.mustDocker("ps", "-a", "--format", "{{.Names}}"); got != "runs" {
		t.Errorf("left after prune: %q", got)
	}
	contains(t, "docker events", s.mustDocker("events", "--since", "1h", "--until", time.Now().UTC().Format(time.RFC3339Nano), "--format", "{{.Type}} {{.Action}}"),
		"container commit", "container export", "container destroy", "container prune")
	s.mustDocker("rm", "-f", "runs")
	s.consistent()
}

// TestOldDockerFiles: Debian's old client does the same.
func TestOldDockerFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := func(in string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := s.host.Command(ctx, "/usr/bin/docker", append([]string{"-H", "unix://" + s.Socket}, args...)...)
		r := finish(cmd, []byte(in))
		if r.Code != 0 {
			t.Fatalf("docker %v: %+v", args, r)
		}
		return r.Stdout
	}
	s.mustDocker("run", "-d", "--name", "c", "demo", "sleep", "3600")
	old("", "cp", "c:/www/index.html", s.lab.Dir("old")+"/page")
	old("", "cp", s.lab.Dir("old")+"/page", "c:/root/page")
	if got := s.mustDocker("exec", "c", "cat", "/root/page"); got+"\n" != page {
		t.Errorf("copied in and out: %q", got)
	}
	contains(t, "diff", old("", "diff", "c"), "A /root/page")
	contains(t, "stats", old("", "stats", "--no-stream"), "KiB / ")
	contains(t, "top", old("", "top", "c"), "sleep 3600")
	contains(t, "commit", old("", "commit", "c", "again"), "sha256:")
	contains(t, "system df", old("", "system", "df"), "Images          2         1")
	s.mustDocker("rm", "-f", "c")
	contains(t, "prune", old("", "container", "prune", "-f"), "Total reclaimed space: 0B")
}
