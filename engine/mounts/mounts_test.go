package mounts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// text is a mount on one line, as a test wants to read it.
func text(m Mount) string {
	out := fmt.Sprintf("%s %s>%s", m.Type, m.Source+m.Name, m.Destination)
	if !m.RW {
		out += " ro"
	}
	for _, s := range []string{m.Mode, string(m.Propagation)} {
		if s != "" {
			out += " " + s
		}
	}
	if m.Type == mount.TypeVolume {
		out += " driver=" + m.Driver
	}
	if m.Anonymous() {
		out += " anonymous"
	}
	if m.Copies() {
		out += " copies"
	}
	if m.Subpath() != "" {
		out += " part=" + m.Subpath()
	}
	if o := m.Spec.BindOptions; o != nil && o.CreateMountpoint {
		out += " made"
	}
	return out
}

func TestBind(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/a:/b":               "bind /a>/b rprivate made",
		"/a/../c:/b/:ro,Z":    "bind /c>/b ro ro,Z rprivate made",
		"/a:/b:rslave":        "bind /a>/b rslave rslave made",
		"/a:/b:rw,cached":     "bind /a>/b rw,cached rprivate made",
		"data:/b":             "volume data>/b z driver=local copies",
		"data:/b:ro":          "volume data>/b ro ro driver=local copies",
		"data:/b:nocopy":      "volume data>/b nocopy driver=local",
		"/b":                  "volume >/b driver=local anonymous copies",
		"/a:/b:nocopy":        "invalid mode: nocopy",
		"data:/b:rshared":     "invalid mode: rshared",
		"a:/b":                "volume name is too short",
		"./a:/b":              "If you intended to pass a host directory, use absolute path",
		"a/b:/b":              "includes invalid characters",
		"b":                   "mount path must be absolute",
		"/b:ro":               "invalid volume specification: '/b:ro'",
		"/a:/b:ro:x":          "invalid volume specification: '/a:/b:ro:x'",
		":/b":                 "invalid volume specification",
		"/a::ro":              "invalid volume specification",
		"":                    "invalid volume specification",
		"/a:/b:nonsense":      "invalid mode: nonsense",
		"/a:/b:ro,rw":         "invalid mode: ro,rw",
		"/a:/b:z,Z":           "invalid mode: z,Z",
		"/a:/b:ro,":           "invalid mode: ro,",
		"/a:b":                "mount path must be absolute",
		"/a:/x/..":            "destination can't be '/'",
		"/":                   "destination can't be '/'",
		"/a:/b:private,slave": "invalid mode",
	} {
		m, err := Bind(in, "")
		switch {
		case err != nil && !errdefs.IsInvalidArgument(err):
			t.Errorf("%s: %v is no invalid argument", in, err)
		case err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %s", in, err, want)
		case err == nil && text(m) != want:
			t.Errorf("%s: %s, want %s", in, text(m), want)
		}
	}
}

func TestMount(t *testing.T) {
	t.Parallel()
	bind := func(o *mount.BindOptions) mount.Mount {
		return mount.Mount{Type: "bind", Source: "/a", Target: "/b", BindOptions: o}
	}
	readOnly := func(o *mount.BindOptions) mount.Mount {
		m := bind(o)
		m.ReadOnly = true
		return m
	}
	vol := func(source string, o *mount.VolumeOptions) mount.Mount {
		return mount.Mount{Type: "volume", Source: source, Target: "/b", VolumeOptions: o}
	}
	tmpfs := func(o *mount.TmpfsOptions) mount.Mount {
		return mount.Mount{Type: "tmpfs", Target: "/b", TmpfsOptions: o}
	}
	for name, tc := range map[string]struct {
		in   mount.Mount
		want string
	}{
		"bind":               {bind(nil), "bind /a>/b rprivate"},
		"bind read-only":     {readOnly(nil), "bind /a>/b ro rprivate"},
		"bind made":          {bind(&mount.BindOptions{CreateMountpoint: true}), "bind /a>/b rprivate made"},
		"bind shared":        {bind(&mount.BindOptions{Propagation: "rshared"}), "bind /a>/b rshared"},
		"bind nonsense":      {bind(&mount.BindOptions{Propagation: "x"}), "invalid propagation mode: x"},
		"forced":             {readOnly(&mount.BindOptions{ReadOnlyForceRecursive: true}), "bind /a>/b ro rprivate"},
		"forced, not ro":     {bind(&mount.BindOptions{ReadOnlyForceRecursive: true}), "are for mounts that are read-only"},
		"forced, shared":     {readOnly(&mount.BindOptions{ReadOnlyForceRecursive: true, Propagation: "shared"}), "wants the propagation to be rprivate"},
		"both":               {readOnly(&mount.BindOptions{ReadOnlyForceRecursive: true, ReadOnlyNonRecursive: true}), "exclude each other"},
		"forced and flat":    {readOnly(&mount.BindOptions{ReadOnlyForceRecursive: true, NonRecursive: true}), "exclude each other"},
		"bind relative":      {mount.Mount{Type: "bind", Source: "a", Target: "/b"}, "mount path must be absolute"},
		"bind no source":     {mount.Mount{Type: "bind", Target: "/b"}, "field Source must not be empty"},
		"no target":          {mount.Mount{Type: "bind", Source: "/a"}, "field Target must not be empty"},
		"relative target":    {mount.Mount{Type: "tmpfs", Target: "b"}, "mount path must be absolute"},
		"the root":           {mount.Mount{Type: "tmpfs", Target: "/./"}, "destination can't be '/'"},
		"options of another": {mount.Mount{Type: "bind", Source: "/a", Target: "/b", VolumeOptions: &mount.VolumeOptions{}}, "field VolumeOptions must not be specified"},
		"bind's of a tmpfs":  {mount.Mount{Type: "tmpfs", Target: "/b", BindOptions: &mount.BindOptions{}}, "field BindOptions must not be specified"},
		"consistency":        {mount.Mount{Type: "bind", Source: "/a", Target: "/b", Consistency: "sometimes"}, `invalid consistency "sometimes"`},
		"volume":             {vol("data", nil), "volume data>/b z driver=local copies"},
		"volume anonymous":   {vol("", nil), "volume >/b driver=local anonymous copies"},
		"volume nocopy":      {vol("data", &mount.VolumeOptions{NoCopy: true}), "volume data>/b z driver=local"},
		"volume part":        {vol("data", &mount.VolumeOptions{Subpath: "x/y"}), "volume data>/b z driver=local part=x/y"},
		"part outside":       {vol("data", &mount.VolumeOptions{Subpath: "x/../../y"}), "subpath must be a relative path within the volume"},
		"part absolute":      {vol("data", &mount.VolumeOptions{Subpath: "/x"}), "subpath must be a relative path within the volume"},
		"volume's name":      {vol("/a", nil), "includes invalid characters"},
		"another driver":     {vol("data", &mount.VolumeOptions{DriverConfig: &mount.Driver{Name: "rexray"}}), `plugin "rexray" not found`},
		"driver's options":   {vol("data", &mount.VolumeOptions{DriverConfig: &mount.Driver{Options: map[string]string{"o": "bind"}}}), `missing required option: "type"`},
		"anonymous, ro":      {mount.Mount{Type: "volume", Target: "/b", ReadOnly: true}, "must not set ReadOnly mode when using anonymous volumes"},
		"tmpfs":              {tmpfs(nil), "tmpfs >/b"},
		"tmpfs source":       {mount.Mount{Type: "tmpfs", Source: "x", Target: "/b"}, "field Source must not be specified"},
		"tmpfs option":       {tmpfs(&mount.TmpfsOptions{Options: [][]string{{"nonsense"}}}), "invalid tmpfs option"},
		"tmpfs remount":      {tmpfs(&mount.TmpfsOptions{Options: [][]string{{"remount"}}}), "invalid tmpfs option"},
		"tmpfs three words":  {tmpfs(&mount.TmpfsOptions{Options: [][]string{{"a", "b", "c"}}}), "neither a word nor a key and a value"},
		"tmpfs negative":     {tmpfs(&mount.TmpfsOptions{SizeBytes: -1}), "SizeBytes is negative"},
		"image":              {mount.Mount{Type: "image", Source: "demo", Target: "/b"}, "--mount type=image at /b is not supported"},
		"cluster":            {mount.Mount{Type: "cluster", Source: "x", Target: "/b"}, "type=cluster at /b is not supported"},
		"npipe":              {mount.Mount{Type: "npipe", Source: "x", Target: "/b"}, "named pipes are Windows'"},
		"no type":            {mount.Mount{Source: "/a", Target: "/b"}, "mount type unknown"},
	} {
		m, err := parse(tc.in, "")
		switch {
		case err != nil && (!strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "invalid mount config for type")):
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		case err == nil && text(m) != tc.want:
			t.Errorf("%s: %s, want %s", name, text(m), tc.want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	set := func(dst ...string) *container.Config {
		c := &container.Config{Volumes: map[string]struct{}{}}
		for _, d := range dst {
			c.Volumes[d] = struct{}{}
		}
		return c
	}
	other, err := Parse(set("/own"), &container.HostConfig{Binds: []string{"/a:/a", "data:/data"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		c    *container.Config
		h    container.HostConfig
		from []Mount
		want string
	}{
		"in order": {set("/c"), container.HostConfig{Binds: []string{"/x:/b", "/x:/a"}}, nil, "bind /x>/a rprivate made; bind /x>/b rprivate made; volume >/c driver=local anonymous copies"},
		"declared, mounted by the user": {
			set("/b/", "/t"), container.HostConfig{Binds: []string{"/x:/b"}, Tmpfs: map[string]string{"/t/": ""}}, nil, "bind /x>/b rprivate made",
		},
		"inherited":            {set(), container.HostConfig{}, Inherit(other, false), "bind /a>/a rprivate made; volume data>/data z driver=local; volume >/own driver=local anonymous"},
		"inherited, read-only": {set(), container.HostConfig{}, Inherit(other, true), "bind /a>/a ro rprivate made; volume data>/data ro z driver=local; volume >/own ro driver=local anonymous"},
		"over what is inherited": {
			set("/own"),
			container.HostConfig{Binds: []string{"/x:/data"}, Tmpfs: map[string]string{"/a": ""}},
			Inherit(other, false),
			"bind /x>/data rprivate made; volume >/own driver=local anonymous",
		},
		"twice":            {set(), container.HostConfig{Binds: []string{"/a:/b", "/c:/b/"}}, nil, "Duplicate mount point: /b"},
		"bind and mount":   {set(), container.HostConfig{Binds: []string{"/a:/b"}, Mounts: []mount.Mount{{Type: "tmpfs", Target: "/b"}}}, nil, "Duplicate mount point: /b"},
		"bind and tmpfs":   {set(), container.HostConfig{Binds: []string{"/a:/b"}, Tmpfs: map[string]string{"/b": ""}}, nil, "Duplicate mount point: /b"},
		"tmpfs twice":      {set(), container.HostConfig{Tmpfs: map[string]string{"/b": "", "/b/": ""}}, nil, "Duplicate mount point: /b"},
		"tmpfs nonsense":   {set(), container.HostConfig{Tmpfs: map[string]string{"/b": "colour=blue"}}, nil, "invalid tmpfs option"},
		"tmpfs size":       {set(), container.HostConfig{Tmpfs: map[string]string{"/b": "size=big"}}, nil, "invalid tmpfs option"},
		"tmpfs mode":       {set(), container.HostConfig{Tmpfs: map[string]string{"/b": "mode=9"}}, nil, "invalid tmpfs option"},
		"tmpfs relative":   {set(), container.HostConfig{Tmpfs: map[string]string{"b": ""}}, nil, "mount path must be absolute"},
		"declared nowhere": {set("b"), container.HostConfig{}, nil, "mount path must be absolute"},
	} {
		got, err := Parse(tc.c, &tc.h, tc.from)
		var lines []string
		for _, m := range got {
			lines = append(lines, text(m))
		}
		switch {
		case err != nil && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		case err == nil && strings.Join(lines, "; ") != tc.want:
			t.Errorf("%s: %s, want %s", name, strings.Join(lines, "; "), tc.want)
		}
	}
	if !other[1].Copies() || other[1].Spec.ReadOnly {
		t.Error("what is inherited was changed in the other container")
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"web": "web false", "web:ro": "web true", "web:rw": "web false", "web:z": "web false",
		"web:nocopy": "", "web:rshared": "", "web:x": "", ":ro": "", "": "",
	} {
		ref, readOnly, err := From(in)
		if got := fmt.Sprint(ref, " ", readOnly); err == nil && got != want || err != nil && (want != "" || !errdefs.IsInvalidArgument(err)) {
			t.Errorf("%s: %s %v, want %s", in, got, err, want)
		}
	}
}

func TestSpec(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in        mount.Mount
		recursive bool
		want      string
	}{
		"bind":           {mount.Mount{Type: "bind", Source: "/a"}, true, "bind /a rbind,rprivate,rw"},
		"shared":         {mount.Mount{Type: "bind", Source: "/a", BindOptions: &mount.BindOptions{Propagation: "rshared"}}, true, "bind /a rbind,rshared,rw"},
		"flat":           {mount.Mount{Type: "bind", Source: "/a", ReadOnly: true, BindOptions: &mount.BindOptions{NonRecursive: true}}, true, "bind /a bind,rprivate,ro"},
		"read-only":      {mount.Mount{Type: "bind", Source: "/a", ReadOnly: true}, true, "bind /a rbind,rprivate,ro,rro"},
		"… on old Linux": {mount.Mount{Type: "bind", Source: "/a", ReadOnly: true}, false, "bind /a rbind,rprivate,ro"},
		"… not below":    {mount.Mount{Type: "bind", Source: "/a", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}}, true, "bind /a rbind,rprivate,ro"},
		"… forced":       {mount.Mount{Type: "bind", Source: "/a", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}}, false, "invalid"},
		"volume":         {mount.Mount{Type: "volume", Source: "data", ReadOnly: true}, true, "bind /v rbind,rprivate,ro,rro"},
		"tmpfs":          {mount.Mount{Type: "tmpfs"}, true, "tmpfs tmpfs noexec,nosuid,nodev,rprivate"},
		"tmpfs sized":    {mount.Mount{Type: "tmpfs", ReadOnly: true, TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 5, Mode: 0o1700, Options: [][]string{{"exec"}, {"uid", "7"}}}}, true, "tmpfs tmpfs nosuid,nodev,ro,size=5,mode=1700,exec,uid=7,rprivate"},
	} {
		tc.in.Target = "/b"
		m, err := parse(tc.in, "")
		if err != nil {
			t.Fatal(name, err)
		}
		if m.Type == mount.TypeVolume {
			m.Source = "/v"
		}
		got, err := Spec([]Mount{m}, tc.recursive)
		switch {
		case err != nil && (tc.want != "invalid" || !errdefs.IsInvalidArgument(err)):
			t.Errorf("%s: %v", name, err)
		case err == nil && (got[0].Destination != "/b" || got[0].Type+" "+got[0].Source+" "+strings.Join(got[0].Options, ",") != tc.want):
			t.Errorf("%s: %+v, want %s", name, got[0], tc.want)
		}
	}
}

func TestTmpfs(t *testing.T) {
	t.Parallel()
	got, err := Tmpfs(map[string]string{"/b/": "size=1,,exec,size=2,suid", "/a": "", "/c": "defaults,rw,mode=1777"})
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	for i, want := range []string{"/a noexec,nosuid,nodev,rprivate", "/b nodev,exec,size=2,suid,rprivate", "/c noexec,nosuid,nodev,rw,mode=1777,rprivate"} {
		if text := got[i].Destination + " " + strings.Join(got[i].Options, ","); text != want {
			t.Errorf("%s, want %s", text, want)
		}
	}
}

func TestRootPropagation(t *testing.T) {
	t.Parallel()
	list := func(p ...mount.Propagation) (out []Mount) {
		for _, one := range p {
			out = append(out, Mount{MountPoint: container.MountPoint{Propagation: one}})
		}
		return out
	}
	got := []string{
		RootPropagation(nil), RootPropagation(list("rprivate", "", "private")),
		RootPropagation(list("rprivate", "slave")), RootPropagation(list("rshared", "rslave")), RootPropagation(list("rslave", "shared")),
	}
	if !slices.Equal(got, []string{"", "", "rslave", "shared", "shared"}) {
		t.Error(got)
	}
}
