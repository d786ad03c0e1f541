package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
)

// eventTime has nine digits always, so that columns stay.
const eventTime = "2006-01-02T15:04:05.000000000Z07:00"

func (a *app) eventsCommand() *cobra.Command {
	var options client.EventsListOptions
	var filterFlags []string
	var spec string
	cmd := &cobra.Command{
		Use:   "events [OPTIONS]",
		Short: "Show what happens, as it happens",
		Example: `  fairlead events                                       until interrupted
  fairlead events --since 10m --until 0s                what happened, and no more
  fairlead events -f container=web -f event=die         a container's ends
  fairlead events --format '{{.Action}} {{.Actor.ID}}'  chosen fields; json for all`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if options.Filters, err = filters(filterFlags); err != nil {
				return err
			}
			now := time.Now()
			options.Since, options.Until = moment(options.Since, now), moment(options.Until, now)
			show, err := eventPrinter(a.Out, spec)
			if err != nil {
				return usageError{err}
			}
			return a.with(func(c *client.Client) error {
				stream := c.Events(cmd.Context(), options)
				for {
					select {
					case message := <-stream.Messages:
						if err := show(message); err != nil {
							return err
						}
					case err := <-stream.Err:
						return eventsEnd(err)
					}
				}
			})
		},
	}
	cmd.Flags().StringArrayVarP(&filterFlags, "filter", "f", nil,
		"only those with KEY=VALUE: container, event, image, label, network, type, volume, daemon, scope")
	cmd.Flags().StringVar(&options.Since, "since", "", "from then on: a time, or how long ago, as 5m")
	cmd.Flags().StringVar(&options.Until, "until", "", "up to then")
	cmd.Flags().StringVar(&spec, "format", "", "json, or a Go template as '{{.Action}} {{.Actor.ID}}'")
	filterKeys(cmd, "container", "daemon", "event", "image", "label", "network", "scope", "type", "volume")
	completeFlags(cmd, map[string]cobra.CompletionFunc{"format": fixed("json")})
	return cmd
}

// moment turns how long ago into when, to the nanosecond: the API's client would drop
// the fraction of the second, and with it what has just happened.
func moment(text string, now time.Time) string {
	ago, err := time.ParseDuration(text)
	if err != nil {
		return text // a time, which the API's client reads
	}
	at := now.Add(-ago)
	return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond())
}

// eventsEnd is what the end of the stream means: --until, or that the daemon went.
func eventsEnd(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the daemon went away: %w", err)
	}
	return err
}

// eventPrinter prints one event by --format.
func eventPrinter(w io.Writer, spec string) (func(events.Message) error, error) {
	switch spec {
	case "":
		return func(m events.Message) error { return printEvent(w, m) }, nil
	case "json":
		spec = "{{json .}}"
	}
	tmpl, err := format.Template(spec)
	if err != nil {
		return nil, err
	}
	return func(m events.Message) error { return executeEvent(w, tmpl, m) }, nil
}

// legacyEvent has the names that templates of old used, beside those of today.
type legacyEvent struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func executeEvent(w io.Writer, tmpl *template.Template, m events.Message) error {
	e := legacyEvent{Message: m}
	if m.Type == events.ContainerEventType || m.Type == events.ImageEventType {
		e.Status, e.ID, e.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	}
	if err := tmpl.Execute(w, e); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func printEvent(w io.Writer, m events.Message) error {
	at := time.Unix(m.Time, 0)
	if m.TimeNano != 0 {
		at = time.Unix(0, m.TimeNano)
	}
	var line strings.Builder
	fmt.Fprintf(&line, "%s %s %s %s", at.Format(eventTime), m.Type, m.Action, m.Actor.ID)
	if len(m.Actor.Attributes) > 0 {
		var pairs []string
		for key, value := range m.Actor.Attributes {
			pairs = append(pairs, key+"="+value)
		}
		slices.Sort(pairs)
		fmt.Fprintf(&line, " (%s)", strings.Join(pairs, ", "))
	}
	_, err := fmt.Fprintln(w, line.String())
	return err
}
