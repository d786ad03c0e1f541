package attach

import (
	"context"
	"fmt"

	"github.com/fairlead/fairlead/bench/engine"
)

// docker is Debian's dockerd, by its command line. It has no way to attach a namespace,
// so a whole container is started: of two that differ in their ports alone the
// difference is the ports'.
type docker struct {
	dir string
	*engine.Engine
}

func (d *docker) prepare(ctx context.Context) (err error) {
	if d.Engine, err = engine.New("docker", d.dir); err != nil {
		return err
	}
	return d.Start(ctx, d.dir)
}

func (d *docker) close() error {
	if d.Engine != nil {
		d.Stop()
	}
	return nil
}

func (d *docker) attachment(w wish) (*attachment, error) {
	name := fmt.Sprintf("bench%d", w.n)
	args := []string{"create", "--name", name}
	for _, p := range w.ports {
		host := ""
		if w.only4 {
			host = "0.0.0.0:"
		}
		args = append(args, "-p", fmt.Sprintf("%s%d:%d", host, p.host, p.container))
	}
	if _, err := d.Run(context.Background(), append(args, engine.Image, "sleep", "3600")...); err != nil {
		return nil, err
	}
	run := func(args ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := d.Run(ctx, append(args, name)...)
			return err
		}
	}
	return &attachment{
		up: run("start"), down: run("stop", "-t", "0"),
		end: func() error { return run("rm", "-f")(context.Background()) },
	}, nil
}
