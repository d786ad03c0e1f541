package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/fairlead/fairlead/capture/decode"
	"github.com/fairlead/fairlead/capture/pcapng"
)

// captureFlags say which packets are wanted, and how they are shown or kept.
type captureFlags struct {
	interfaces []string
	direction  string
	count      uint64
	snapLen    uint64

	numbers, link, verbose, bytes bool

	write   string
	size    uint64
	seconds uint64
	files   uint64

	path   bool
	ipv6   bool
	format string
}

const captureLong = `Show the packets of a container, of a network, or of the host, as they pass: nothing is needed inside the container, and
nothing is slower while no capture runs. Of a container its own interfaces are looked at, of a network its bridge, of
"host" the interfaces by which the host reaches others.

FILTER is an expression in tcpdump's language (pcap-filter(7)), and a container's name stands for its addresses. What is
not understood is refused, with what to use instead.

A line has the time, the interface, and the way a packet goes there: In, Out, B and M for many, P for somebody else,
which is what passes a network's bridge from container to container. A capture ends with Ctrl-C, after -c packets, or
when the container stops; then it says what was captured and what was lost.

With --path nothing is waited for: one packet of its own (a ping, a TCP connection, or a UDP datagram) is sent to
TO[:PORT[/PROTO]], a container, "host", an address or a name, and shown at every interface there and back, with times,
addresses before and after NAT, the rule that dropped it, and the kernel's own reason. Status 1 says that it was not
answered.`

func (a *app) captureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture [OPTIONS] CONTAINER|NETWORK|host [FILTER...]",
		Short: "Show the packets of a container or network, or write them for Wireshark",
		Long:  captureLong,
		Example: `  fairlead capture web                                what web sends and receives
  fairlead capture web tcp port 80 and host db        what it says to db by HTTP
  fairlead capture backend 'arp or icmp6'             who looks for whom on a network
  fairlead capture -c 20 -nv web 'tcp[tcpflags] & tcp-syn != 0'
  fairlead capture -w web.pcapng web                  for Wireshark: tshark -r web.pcapng
  fairlead capture -w - web | wireshark -k -i -       in Wireshark, as it happens
  fairlead capture -w all.pcapng -C 100 -W 5 web      the last 500 MB
  fairlead capture --path web db:5432                 one packet, at every hop there and back`,
		Args: minArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.complete(1, listContainers(false), listNetworks)(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.path || f.format != "" || f.ipv6 {
				return a.captureOnPath(cmd, args, f)
			}
			if err := f.check(); err != nil {
				return err
			}
			return a.capture(cmd.Context(), args[0], strings.Join(args[1:], " "), f)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.interfaces, "interface", "i", nil, "interface of the target, or any; may be given several times (default: all but lo)")
	fl.StringVarP(&f.direction, "direction", "Q", "", "only what comes in or goes out there: in, out or inout")
	fl.Uint64VarP(&f.count, "count", "c", 0, "end after so many packets")
	fl.Uint64VarP(&f.snapLen, "snapshot-length", "s", 0, "keep so many bytes of each packet (default: all)")
	fl.BoolVarP(&f.numbers, "numeric", "n", false, "show addresses, not the names of containers")
	fl.BoolVarP(&f.link, "link", "e", false, "show Ethernet addresses")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "show more of the headers")
	fl.BoolVarP(&f.bytes, "bytes", "x", false, "show the bytes")
	fl.StringVarP(&f.write, "write", "w", "", "write pcapng to a file, which only its owner can read; - is standard output")
	fl.Uint64VarP(&f.size, "size", "C", 0, "begin another file when one has so many MB (10^6 bytes): FILE-0001, FILE-0002, …")
	fl.Uint64VarP(&f.seconds, "seconds", "G", 0, "begin another file after so many seconds")
	fl.Uint64VarP(&f.files, "files", "W", 0, "keep the last so many files")
	fl.BoolVar(&f.path, "path", false, "send one packet from CONTAINER, or host, to TO[:PORT[/PROTO]] and show it at every hop")
	fl.BoolVarP(&f.ipv6, "ipv6", "6", false, "with --path: by IPv6")
	fl.StringVarP(&f.format, "format", "f", "", "with --path: json, or a Go template")
	completeFlags(cmd, map[string]cobra.CompletionFunc{"direction": fixed("in", "out", "inout"), "interface": fixed("any", "eth0", "lo")})
	return cmd
}

func (f captureFlags) check() error {
	switch {
	case (f.size > 0 || f.seconds > 0) && (f.write == "" || f.write == "-"):
		return usagef("-C and -G begin another file: name the first with -w FILE")
	case f.files > 0 && f.size == 0 && f.seconds == 0:
		return usagef("-W is how many files to keep: say with -C or -G when another begins")
	case !slices.Contains([]string{"", "in", "out", "inout"}, f.direction):
		return usagef("invalid --direction %q: want in, out or inout", f.direction)
	}
	return nil
}

// captureOnPath sends a packet of its own instead of looking at others'.
func (a *app) captureOnPath(cmd *cobra.Command, args []string, f captureFlags) error {
	if !f.path {
		return usagef("--ipv6 and --format are for --path")
	}
	if len(args) != 2 {
		return usagef("--path sends a packet of its own and takes no filter: say from where and to where, as in: fairlead capture --path web 192.0.2.7:443")
	}
	var others []string
	for _, name := range []string{"interface", "direction", "count", "snapshot-length", "numeric", "link", "verbose", "bytes", "write", "size", "seconds", "files"} {
		if cmd.Flags().Changed(name) {
			others = append(others, "--"+name)
		}
	}
	if len(others) > 0 {
		return usagef("%s cannot be used with --path", strings.Join(others, ", "))
	}
	return a.capturePath(cmd.Context(), args[0], args[1], f.ipv6, f.format)
}

func (f captureFlags) query(target, filter string) string {
	q := url.Values{"target": {target}, "interface": f.interfaces}
	for name, value := range map[string]string{
		"filter": filter, "direction": f.direction, "count": number(f.count), "snaplen": number(f.snapLen),
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q.Encode()
}

func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// capture shows or writes packets until it is interrupted or ends.
func (a *app) capture(ctx context.Context, target, filter string, f captureFlags) error {
	out, isFile := a.Out.(*os.File)
	if f.write == "-" && isFile && xterm.IsTerminal(int(out.Fd())) {
		return usagef("-w - writes bytes, which are not for a terminal: pass them on, or name a file")
	}
	// The first signal ends the capture in good order, another one the program.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	stream, err := a.openCapture(ctx, "/fairlead/v1/capture?"+f.query(target, filter))
	if err != nil {
		return a.explain(err)
	}
	defer stream.close()
	go func() {
		<-ctx.Done()
		stop()
		stream.end()
	}()
	sink, err := a.captureSink(f)
	if err != nil {
		return err
	}
	c := &captured{app: a, sink: sink}
	err = c.read(stream)
	return errors.Join(err, sink.close(), c.summary())
}

// sink is where packets go.
type sink interface {
	block(b pcapng.Block, of []pcapng.Interface) error
	flush() error
	close() error
}

func (a *app) captureSink(f captureFlags) (sink, error) {
	switch f.write {
	case "":
		p := &decode.Printer{Link: f.link, Verbose: f.verbose, Bytes: f.bytes}
		if !f.numbers {
			p.Names = make(map[netip.Addr]string)
		}
		return newTextSink(a.Out, p), nil
	case "-":
		return newRawSink(a.Out), nil
	}
	return newFileSink(f)
}

// captured is what is known of the capture so far.
type captured struct {
	*app
	sink       sink
	interfaces []pcapng.Interface
	packets    uint64
	statistics map[int]pcapng.Statistics
}

func (c *captured) read(stream *captureStream) error {
	r := pcapng.NewReader(stream)
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the daemon went away: %w", err)
		}
		switch v := b.Value.(type) {
		case pcapng.Section:
			fmt.Fprintf(c.Err, "capturing %s; end with Ctrl-C\n", v.Comment)
		case pcapng.Interface:
			c.interfaces = append(c.interfaces, v)
		case pcapng.Packet:
			c.packets++
		case pcapng.Statistics:
			if c.statistics == nil {
				c.statistics = make(map[int]pcapng.Statistics)
			}
			c.statistics[v.Interface] = v
		}
		if err := c.sink.block(b, c.interfaces); err != nil {
			return err
		}
		if stream.buffered() == 0 {
			if err := c.sink.flush(); err != nil {
				return err
			}
		}
	}
}

// summary says what was captured and what was lost, as tcpdump does, and why it ended.
func (c *captured) summary() error {
	if len(c.statistics) == 0 {
		return nil // it was cut short, which was said
	}
	var received, dropped uint64
	for i := range c.interfaces {
		s := c.statistics[i]
		received += s.Received
		dropped += s.Dropped
		if s.Comment != "" {
			fmt.Fprintln(c.Err, s.Comment)
		}
	}
	fmt.Fprintf(c.Err, "%d packets captured\n%d packets received by filter\n%d packets dropped by kernel\n", c.packets, received, dropped)
	return nil
}

// captureEnd is how long the end of a capture is waited for.
const captureEnd = 5 * time.Second
