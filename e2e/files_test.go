package e2e

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// readFile is a file of the host's; "" where there is none.
func readFile(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(raw)
}

// TestDockerCopy: docker cp puts files into containers and takes them out, whether
// they run or not, with directories, links and volumes as Docker does.
func TestDockerCopy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.lab.Dir("copies")
	path := func(n string) string { return filepath.Join(dir, n) }
	for name, content := range map[string]string{"file": "from the host\n", "tree/one": "1\n", "tree/sub/two": "2\n"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path(name)), 0o755), os.WriteFile(path(name), []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	shared := path("shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	s.mustDocker("create", "--name", "c", "-v", shared+":/data", "--tmpfs", "/scratch", "--user", "ann", "demo", "sh", "-c",
		"cat /root/renamed; ls -ln /root/tree/sub/two; while [ ! -e /data/end ]; do sleep 0.1; done")
	for _, when := range []string{"created", "running", "ended"} {
		switch when {
		case "running":
			s.mustDocker("start", "c")
		case "ended":
			s.mustDocker("cp", path("file"), "c:/scratch/seen")
			s.mustDocker("exec", "-u", "0", "c", "grep", "host", "/scratch/seen")
			s.mustDocker("cp", path("file"), "c:/data/end")
			s.mustDocker("wait", "c")
		}
		s.mustDocker("cp", path("file"), "c:/root/renamed")
		s.mustDocker("cp", path("tree"), "c:/root")
		s.mustDocker("cp", path("file"), "c:/data/"+when)
		if got := readFile(t, filepath.Join(shared, when)); got != "from the host\n" {
			t.Errorf("%s: in the volume %q", when, got)
		}
		out := path("out-" + when)
		s.mustDocker("cp", "c:/root/renamed", out)
		if got := readFile(t, out); got != "from the host\n" {
			t.Errorf("%s: out again %q", when, got)
		}
		s.mustDocker("cp", "c:/root/tree/.", path("tree-"+when))
		if got := readFile(t, path("tree-"+when+"/sub/two")); got != "2\n" {
			t.Errorf("%s: a directory's content %q", when, got)
		}
		// A link that leads up leads to what is in the container.
		s.mustDocker("cp", "-L", "c:/bin/sh", path("sh-"+when))
		if info, err := os.Lstat(path("sh-" + when)); err != nil || !info.Mode().IsRegular() || info.Size() < 100000 {
			t.Errorf("%s: cp -L of a link: %v %v", when, info, err)
		}
		for args, want := range map[string]string{
			"cp c:/none " + path("x"):                 "Could not find the file /none in container c",
			"cp " + path("tree") + " c:/root/renamed": "cannot copy directory",
			"cp " + path("file") + " c:/none/x/":      "no such directory",
		} {
			if r := s.docker(nil, words(args)...); r.Code == 0 || !strings.Contains(r.Stderr, want) {
				t.Errorf("%s: docker %s: exit code %d, %s", when, args, r.Code, r.Stderr)
			}
		}
	}
	if got := s.mustDocker("logs", "c"); !strings.Contains(got, "from the host") {
		t.Errorf("the container read %q", got)
	}
	// From standard input and to standard output.
	r := s.docker(nil, "cp", "c:/root/tree", "-")
	if got := archiveNames(t, r.Stdout); got != "tree/ tree/one tree/sub/ tree/sub/two" {
		t.Errorf("to standard output: %s", got)
	}
	if r := s.docker([]byte(r.Stdout), "cp", "-", "c:/home"); r.Code != 0 {
		t.Errorf("from standard input: %s", r.Stderr)
	}
	// With -a everything is the container's user's.
	s.mustDocker("cp", "-a", path("file"), "c:/home/hers")
	s.mustDocker("cp", "c:/home", path("home"))
	s.mustDocker("run", "--rm", "-v", shared+":/data", "demo", "true")
	if got := readFile(t, path("home/tree/one")) + readFile(t, path("home/hers")); got != "1\nfrom the host\n" {
		t.Errorf("from standard input, and with -a: %q", got)
	}
	// The reason is told too where more comes than anybody reads.
	if err := os.WriteFile(path("large"), make([]byte, 16<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	s.mustDocker("create", "--name", "ro", "--read-only", "-v", shared+":/data:ro", "demo", "true")
	for target, want := range map[string]string{"/root/": "container rootfs is marked read-only", "/data/": "mounted volume is marked read-only"} {
		if r := s.docker(nil, "cp", path("large"), "ro:"+target); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("to a read-only %s: exit code %d, %s", target, r.Code, r.Stderr)
		}
	}
	// A whole root leaves the kernel's own file systems out.
	s.mustDocker("run", "-d", "--name", "live", "demo", "sleep", "3600")
	names := archiveNames(t, s.docker(nil, "cp", "live:/", "-").Stdout)
	if !strings.Contains(names, "/bin/busybox") || strings.Contains(names, "/proc/self") || strings.Contains(names, "/sys/kernel") {
		t.Errorf("a running container's root has %.300s", names)
	}
	s.mustDocker("rm", "-f", "c", "ro", "live")
	s.consistent()
}

func archiveNames(t *testing.T, raw string) string {
	t.Helper()
	var names []string
	for r := tar.NewReader(strings.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " ")
		}
		if err != nil {
			t.Fatalf("not an archive: %v\n%.200s", err, raw)
		}
		names = append(names, h.Name)
	}
}

// TestDockerCopyStaysInside: a container that exchanges directories for links to the
// host's while docker cp is at it gets nothing of the host's, and changes nothing.
func TestDockerCopyStaysInside(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.lab.Dir("hostile")
	secret, loot := filepath.Join(dir, "secret"), filepath.Join(dir, "loot")
	if err := errors.Join(os.Mkdir(secret, 0o755), os.WriteFile(filepath.Join(secret, "file"), []byte("the host's"), 0o644), os.WriteFile(loot, []byte("planted"), 0o644)); err != nil {
		t.Fatal(err)
	}
	s.mustDocker("run", "-d", "--name", "evil", "demo", "sh", "-c", "mkdir -p /d/real; cd /d; echo mine > real/file; "+
		"while :; do mv real x; ln -s "+secret+" real; rm real; ln -s ../../../../../../../.."+secret+" real; rm real; mv x real; : >begun; usleep 5000; done")
	eventually(t, "it attacks", func() bool { return s.docker(nil, "exec", "evil", "test", "-e", "/d/begun").Code == 0 })
	// The directory is there half of the time: a copy comes through before long.
	written, read := 0, 0
	began := time.Now()
	for past := time.Duration(0); past < 2500*time.Millisecond || (written == 0 || read == 0) && past < time.Minute; past = time.Since(began) {
		if s.docker(nil, "cp", loot, "evil:/d/real/").Code == 0 {
			written++
		}
		for _, path := range []string{"/d/real/file", "/d/real/.", "/d"} {
			r := s.docker(nil, "cp", "-L", "evil:"+path, "-")
			if strings.Contains(r.Stdout, "the host's") {
				t.Fatalf("%s was read from the host", path)
			}
			if strings.Contains(r.Stdout, "mine") {
				read++
			}
		}
	}
	if left, err := os.ReadDir(secret); err != nil || len(left) != 1 || readFile(t, filepath.Join(secret, "file")) != "the host's" {
		t.Errorf("on the host there is %v %v", left, err)
	}
	if written == 0 || read == 0 {
		t.Errorf("the attacked directory was written to %d times and read %d times: this has shown nothing", written, read)
	}
	s.mustDocker("rm", "-f", "evil")
	s.consistent()
}

// zeros is an archive of one file of so many bytes, as a client sends it.
func zeros(name string, size int64) io.Reader {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size})
		chunk := make([]byte, 1<<20)
		for left := size; left > 0 && err == nil; left -= int64(len(chunk)) {
			_, err = t.Write(chunk[:min(left, int64(len(chunk)))])
		}
		w.CloseWithError(errors.Join(err, t.Close()))
	}()
	return r
}

// peakMemory is the most that the process ever had in memory, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(readFile(t, "/proc/"+strconv.Itoa(pid)+"/status")) {
		if f := strings.Fields(line); f[0] == "VmHWM:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("process %d has no VmHWM", pid)
	return 0
}

// TestLargeCopies: a copy takes no memory by its size, a reader who does not read
// holds nothing up, and a daemon that is killed in the middle leaves a container that
// starts.
func TestLargeCopies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("create", "--name", "c", "demo", "ls", "-l", "/root")
	send := func(body io.Reader) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://localhost/v1.45/containers/c/archive?path=/root", body)
		if err != nil {
			t.Fatal(err)
		}
		return s.HTTP().Do(req)
	}
	receive := func() *http.Response {
		t.Helper()
		resp, err := s.HTTP().Get("http://localhost/v1.45/containers/c/archive?path=/root/large")
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	const size, most = 128 << 20, 32 << 20
	before := peakMemory(t, s.PID())
	resp, err := send(zeros("large", size))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	resp = receive()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < size {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	resp.Body.Close()
	if grown := peakMemory(t, s.PID()) - before; grown > most {
		t.Errorf("copies of %d MiB took %d MiB of memory", size>>20, grown>>20)
	}

	unread := receive()
	defer unread.Body.Close()
	s.mustDocker("start", "-a", "c")
	s.mustDocker("cp", "c:/etc/passwd", "-")

	r, w := io.Pipe()
	go func() { _, _ = io.CopyN(w, zeros("half", size), 4<<20) }() // and then nothing more
	ended := make(chan error, 1)
	go func() {
		resp, err := send(r)
		if err == nil {
			resp.Body.Close()
		}
		ended <- err
	}()
	eventually(t, "half of it is there", func() bool { return strings.Contains(s.mustDocker("diff", "c"), "/root/half") })
	s.Kill()
	w.CloseWithError(io.ErrUnexpectedEOF) // the client waits for its own end too
	if err := <-ended; err == nil {
		t.Error("the copy ended as if all had come")
	}
	s.Start()
	contains(t, "the container", s.mustDocker("start", "-a", "c"), "half", "large")
	s.mustDocker("rm", "c")
	s.consistent()
}
