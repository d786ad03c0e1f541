package cli_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/go-archive"
	"github.com/moby/moby/api/types/container"
	"github.com/rogpeppe/go-internal/testscript"
)

// files has a directory be a container's files: the daemon's side of cp, without its
// care for hostile links.
func files(ts *testscript.TestScript, _ bool, args []string) {
	f, _ := ts.Value("front").(*front)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files == nil {
		f.files = map[string]string{}
	}
	f.files[args[0]] = ts.MkAbs(args[1])
}

func serveArchive(w http.ResponseWriter, r *http.Request, root string) {
	fail := func(status int, text string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
	}
	asked := r.URL.Query().Get("path")
	name := filepath.Join(root, path.Clean("/"+asked))
	info, err := os.Lstat(name)
	if err != nil {
		fail(http.StatusNotFound, "Could not find the file "+asked+" in container")
		return
	}
	if r.Method == http.MethodPut {
		if !info.IsDir() {
			fail(http.StatusBadRequest, "extraction point is not a directory")
			return
		}
		if err := archive.Untar(r.Body, name, &archive.TarOptions{NoLchown: r.URL.Query().Get("copyUIDGID") == ""}); err != nil {
			fail(http.StatusInternalServerError, err.Error())
		}
		return
	}
	stat := container.PathStat{Name: path.Base(asked), Size: info.Size(), Mode: info.Mode(), Mtime: info.ModTime()}
	if info.Mode()&os.ModeSymlink != 0 {
		target, _ := os.Readlink(name)
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(asked), target)
		}
		stat.LinkTarget = target
	}
	text, _ := json.Marshal(stat)
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(text))
	if r.Method == http.MethodHead {
		return
	}
	if strings.HasSuffix(asked, "/.") {
		name += "/."
	}
	packed, err := archive.TarResource(archive.CopyInfo{Path: name})
	if err != nil {
		fail(http.StatusInternalServerError, err.Error())
		return
	}
	defer func() { _ = packed.Close() }()
	w.Header().Set("Content-Type", "application/x-tar")
	buf := make([]byte, 32<<10)
	for {
		n, err := packed.Read(buf)
		if n > 0 {
			_, _ = w.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}
