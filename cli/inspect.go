package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/template"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
)

// object is one answer of an inspect call: the daemon's own JSON, and the same
// as the client's type.
type object struct {
	raw   json.RawMessage
	typed any
	// before is the path of what clients of Docker read before API 1.52, which
	// templates made for them name; "" is none. older asks for it.
	before string
	older  func() (json.RawMessage, error)
}

// olderAPI is the last version with fields that are elsewhere since.
const olderAPI = "/v1.51"

// getter inspects the object of one kind.
type getter func(ctx context.Context, c *client.Client, name string) (object, error)

func inspectContainer(ctx context.Context, c *client.Client, name string) (object, error) {
	got, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	return object{raw: got.Raw, typed: got.Container, before: olderAPI + "/containers/" + got.Container.ID + "/json"}, err
}

// inspectSized is inspectContainer with the size of its files.
func inspectSized(ctx context.Context, c *client.Client, name string) (object, error) {
	got, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{Size: true})
	return object{raw: got.Raw, typed: got.Container, before: olderAPI + "/containers/" + got.Container.ID + "/json?size=1"}, err
}

func inspectImage(ctx context.Context, c *client.Client, name string) (object, error) {
	var raw bytes.Buffer
	got, err := c.ImageInspect(ctx, name, client.ImageInspectWithRawResponse(&raw))
	return object{raw: raw.Bytes(), typed: got.InspectResponse, before: olderAPI + "/images/" + got.ID + "/json"}, err
}

func inspectNetwork(ctx context.Context, c *client.Client, name string) (object, error) {
	got, err := c.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
	return object{raw: got.Raw, typed: got.Network}, err
}

// kindOf is a kind of object by its name.
type kindOf struct {
	name string
	get  getter
}

// kinds in the order they are tried.
var kinds = []kindOf{
	{"container", inspectContainer},
	{"image", inspectImage},
	{"network", inspectNetwork},
	{"volume", inspectVolume},
}

func (a *app) inspectCommand() *cobra.Command {
	var kind, spec string
	var sized bool
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME|ID [NAME|ID...]",
		Short: "Print all that is known of a container, image, network or volume, as JSON",
		Example: `  fairlead inspect web
  fairlead inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web
  fairlead inspect -f '{{json .NetworkSettings.Ports}}' web
  fairlead inspect --type network mynet`,
		Args: minArgs(1), ValidArgsFunction: a.complete(0, listContainers(true), listImages, listNetworks, listVolumes),
		RunE: func(cmd *cobra.Command, args []string) error {
			get, err := getterOf(kind, sized)
			if err != nil {
				return err
			}
			return a.with(func(c *client.Client) error { return a.inspect(cmd.Context(), c, get, spec, args) })
		},
	}
	cmd.Flags().StringVar(&kind, "type", "", "container, image, network or volume (default: the first there is of that name)")
	cmd.Flags().BoolVarP(&sized, "size", "s", false, "with the size of a container's files")
	completeFlags(cmd, map[string]cobra.CompletionFunc{"type": fixed("container", "image", "network", "volume")})
	formatFlag(cmd, &spec)
	return cmd
}

// getterOf inspects one kind, or the first of a name where kind is "".
func getterOf(kind string, sized bool) (getter, error) {
	chosen := slices.Clone(kinds)
	if sized {
		chosen[0].get = inspectSized
	}
	if kind == "" {
		return func(ctx context.Context, c *client.Client, name string) (object, error) {
			return inspectAny(ctx, c, chosen, name)
		}, nil
	}
	for _, k := range chosen {
		if k.name == kind {
			return k.get, nil
		}
	}
	return nil, usagef("invalid --type %q: want container, image, network or volume", kind)
}

// inspectOne is `KIND inspect`; get is asked when the flags have been read.
func (a *app) inspectOne(kind, argument string, get func() (getter, error), names lister) *cobra.Command {
	var spec string
	cmd := &cobra.Command{
		Use:     fmt.Sprintf("inspect [OPTIONS] %s [%[1]s...]", argument),
		Short:   fmt.Sprintf("Print all that is known of %ss, as JSON", kind),
		Example: fmt.Sprintf("  fairlead %s inspect NAME\n  fairlead %[1]s inspect -f '{{json .}}' NAME", kind),
		Args:    minArgs(1), ValidArgsFunction: a.complete(0, names),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := get()
			if err != nil {
				return err
			}
			return a.with(func(c *client.Client) error { return a.inspect(cmd.Context(), c, chosen, spec, args) })
		},
	}
	formatFlag(cmd, &spec)
	return cmd
}

// always is a getter that no flag changes.
func always(get getter) func() (getter, error) {
	return func() (getter, error) { return get, nil }
}

// formatFlag registers inspect's -f.
func formatFlag(cmd *cobra.Command, spec *string) {
	cmd.Flags().StringVarP(spec, "format", "f", "", "Go template over the JSON, as '{{.Id}}'; json for one line")
}

// inspectAny tries each kind in turn.
func inspectAny(ctx context.Context, c *client.Client, kinds []kindOf, name string) (object, error) {
	for _, kind := range kinds {
		got, err := kind.get(ctx, c, name)
		// A name that a kind cannot have is not of that kind.
		if err == nil || (!errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err)) {
			return got, err
		}
	}
	return object{}, fmt.Errorf("no such object: %s", name)
}

// inspect prints the objects that are there, as one JSON array or by the
// template each, and returns the errors of the others.
func (a *app) inspect(ctx context.Context, c *client.Client, get getter, spec string, names []string) error {
	var found []object
	var errs []error
	for _, name := range names {
		got, err := get(ctx, c, name)
		if err != nil {
			errs = append(errs, errors.New(message(a.explain(err))))
			continue
		}
		got.older = func() (raw json.RawMessage, err error) {
			err = a.call(ctx, http.MethodGet, got.before, &raw)
			return raw, err
		}
		found = append(found, got)
	}
	return errors.Join(append(errs, a.printObjects(found, spec))...)
}

func (a *app) printObjects(found []object, spec string) error {
	if spec == "" || spec == "json" {
		all := make([]json.RawMessage, len(found))
		for i, o := range found {
			all[i] = o.raw
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		if spec == "" {
			enc.SetIndent("", "    ")
		}
		if err := enc.Encode(all); err != nil {
			return fmt.Errorf("the daemon's answer is not JSON: %w", err)
		}
		_, err := a.Out.Write(text.Bytes())
		return err
	}
	for _, o := range found {
		text, err := render(o, spec)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Out, text)
	}
	return nil
}

// render executes a template over the JSON as it came, where names are those one
// reads in it and addresses that are not set are empty, and, where the JSON lacks
// a field, over the typed answer if there is one, where names are Docker's Go fields,
// and what older clients read.
func render(o object, spec string) (string, error) {
	tmpl, err := format.Template(spec)
	if err != nil {
		return "", usageError{err}
	}
	tree, err := renderTree(tmpl, o.raw)
	if err == nil {
		return tree, nil
	}
	if o.typed == nil {
		return "", fmt.Errorf("--format: %w", err)
	}
	var text strings.Builder
	err = tmpl.Execute(&text, o.typed)
	if err == nil {
		return text.String(), nil
	}
	if o.before != "" {
		if raw, err := o.older(); err == nil {
			if text, err := renderTree(tmpl, raw); err == nil {
				return text, nil
			}
		}
	}
	return "", fmt.Errorf("--format: %w", err)
}

// renderTree executes a template over JSON, which has to have what is asked for.
func renderTree(tmpl *template.Template, raw json.RawMessage) (string, error) {
	var tree any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return "", fmt.Errorf("the daemon's answer is not JSON: %w", err)
	}
	strict, err := tmpl.Clone()
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = strict.Option("missingkey=error").Execute(&text, tree)
	return text.String(), err
}
