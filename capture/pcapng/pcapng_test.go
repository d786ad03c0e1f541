package pcapng_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/fairlead/fairlead/capture/pcapng"
)

var at = time.Unix(1790000000, 123456789)

func sample() (all []byte, values []any) {
	section := pcapng.Section{OS: "linux", Application: "fairlead", Comment: "container web"}
	eth := pcapng.Interface{Name: "eth0", Description: "network default", Comment: "a comment", Filter: "tcp port 80", LinkType: pcapng.LinkEthernet, SnapLen: 262144}
	names := []pcapng.Name{{netip.MustParseAddr("10.0.0.2"), "web"}, {netip.MustParseAddr("fd00::2"), "web"}}
	packet := pcapng.Packet{Time: at, Direction: pcapng.Outbound, Reception: pcapng.Multicast, Data: []byte("fifteen bytes !"), Length: 1500}
	plain := pcapng.Packet{Time: at, Data: []byte("plain"), Length: 5}
	stats := pcapng.Statistics{Time: at, Received: 7, Dropped: 5, Delivered: 2, Comment: "web stopped"}
	all = pcapng.AppendSection(nil, section)
	all = pcapng.AppendInterface(all, eth)
	all = pcapng.AppendNames(all, names)
	all = pcapng.AppendPacket(all, packet)
	all = pcapng.AppendPacket(all, plain)
	all = pcapng.AppendStatistics(all, stats)
	return all, []any{section, eth, names, packet, plain, stats}
}

func TestRoundTrip(t *testing.T) {
	all, want := sample()
	r := pcapng.NewReader(bytes.NewReader(all))
	var got []any
	var raw []byte
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := b.Value.(pcapng.Packet); ok {
			p.Data = bytes.Clone(p.Data)
			b.Value = p
		}
		got, raw = append(got, b.Value), append(raw, b.Raw...)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	if !bytes.Equal(raw, all) {
		t.Error("the blocks are not what was written")
	}
}

// TestOthersRead has another reader read it.
func TestOthersRead(t *testing.T) {
	all, _ := sample()
	r, err := pcapgo.NewNgReader(bytes.NewReader(all), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	data, info, options, err := r.ReadPacketDataWithOptions()
	if err != nil || string(data) != "fifteen bytes !" || info.Length != 1500 || !info.Timestamp.Equal(at) {
		t.Errorf("packet %q %+v, %v", data, info, err)
	}
	if f := options.Flags; f == nil || f.Direction != pcapgo.NgEpbFlagDirectionOutbound || f.Reception != pcapgo.NgEpbFlagReceptionTypeMulticast {
		t.Errorf("flags %+v", f)
	}
	if _, _, err := r.ReadPacketData(); err != nil {
		t.Error(err)
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want the end", err)
	}
	i, err := r.Interface(0)
	if err != nil || i.Name != "eth0" || i.Filter != "tcp port 80" || i.Description != "network default" ||
		i.Comment != "a comment" || i.LinkType != layers.LinkTypeEthernet {
		t.Errorf("interface %+v, %v", i, err)
	}
	if s := i.Statistics; s.PacketsReceived != 7 || s.PacketsDropped != 5 || s.Comment != "web stopped" {
		t.Errorf("statistics %+v", s)
	}
	if n, err := r.Name(1); err != nil || r.NNames() != 2 || n.Names[0] != "web" {
		t.Errorf("%d names, %+v, %v", r.NNames(), n, err)
	}
}

func TestRefused(t *testing.T) {
	all, _ := sample()
	for cut := 1; cut < len(all); cut += 7 {
		r := pcapng.NewReader(bytes.NewReader(all[:cut]))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	orphan := pcapng.AppendPacket(pcapng.AppendSection(nil, pcapng.Section{}), pcapng.Packet{})
	for name, b := range map[string][]byte{
		"text": []byte("HTTP/1.1 500 Internal"), "a block too long": {6, 0, 0, 0, 0, 0, 0, 0x70}, "no interface": orphan,
	} {
		r := pcapng.NewReader(bytes.NewReader(b))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	all, _ := sample()
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := pcapng.NewReader(bytes.NewReader(b))
		for {
			block, err := r.Next()
			if err != nil {
				return
			}
			if p, ok := block.Value.(pcapng.Packet); ok && len(p.Data) > len(block.Raw) {
				t.Fatal("a packet is longer than its block")
			}
		}
	})
}
