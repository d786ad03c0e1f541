package walkthrough

import (
	"regexp"
	"strings"
	"testing"
)

const (
	oneID   = "82b6f5211c1d82b6f5211c1d82b6f5211c1d82b6f5211c1d82b6f5211c1d82b6"
	otherID = "13571540aa1813571540aa1813571540aa1813571540aa1813571540aa181357"
)

// TestHide: two runs of the same have the same text, though all that is random in them
// differs; and what is not random stays.
func TestHide(t *testing.T) {
	t.Parallel()
	one := "id " + oneID + "\nshort " + oneID[:12] + " br-" + otherID[:12] + ", " + "veth" + otherID[:7] + "\n" +
		"7: veth" + otherID[:7] + "@if2: <UP> link/ether fe:42:01:78:a0:df brd ff:ff:ff:ff:ff:ff\n" +
		"eth0@if7         UP\n2: eth0@if7: link/ether 02:42:ac:11:00:02\n    inet6 fe80::fc42:1ff:fe78:a0df/64\n" +
		"172.17.0.2:58207 → 192.0.2.2:80/tcp, 192.0.2.2.80 > 172.17.0.2.58207, [fd00::2]:58207 web:58207\n" +
		"12:01:02.123456 IP: Flags [S], seq 404896156, win 64240\n12:01:02.123999 ack 404896157\n" +
		"        0s  db eth0\n     181µs  host\n time=0.031 ms\nrtt min/avg/max/mdev = 0.031/0.04/0.05/0.001 ms\n" +
		"net:[4026532556] pid=812 ICMP echo request, id 13824, seq 0   \n"
	other := strings.NewReplacer(
		oneID, otherID, otherID, oneID, oneID[:12], otherID[:12], otherID[:12], oneID[:12], otherID[:7], oneID[:7],
		"7: ", "12: ", "@if7         UP", "@if12        UP", "@if7", "@if12", "fe:42:01:78:a0:df", "fe:42:99:78:a0:df", "fe80::fc42:1ff:fe78:a0df", "fe80::fc42:99ff:fe78:a0df",
		"58207", "40001", "12:01:02", "23:59:59", "404896156", "77", "404896157", "78", "181µs", "2.3ms",
		"0.031", "1.2", "4026532556", "4026531992", "812", "99999", "13824", "1").Replace(one)
	first, second := NewNames().Hide(one), NewNames().Hide(other)
	// A sequence number that short is taken for what it is.
	second = strings.NewReplacer("seq 77", "seq 1804289383", "ack 78", "ack 1804289384").Replace(second)
	if first != second {
		t.Errorf("one run:\n%s\nanother:\n%s", first, second)
	}
	for _, random := range []string{oneID[:7], otherID[:7], "58207", "404896", "12:01", "0.031", "4026532556", "812", "13824", "01:78", "181µs"} {
		if strings.Contains(first, random) {
			t.Errorf("%s is still there:\n%s", random, first)
		}
	}
	for _, kept := range []string{"02:42:ac:11:00:02", "ff:ff:ff:ff:ff:ff", "172.17.0.2:", "192.0.2.2:80/tcp", "win 64240", "2: eth0", "@if2", "seq 0\n"} {
		if !strings.Contains(first, kept) {
			t.Errorf("%s is gone:\n%s", kept, first)
		}
	}
	if m := regexp.MustCompile(`br-([0-9a-f]{7}).*veth([0-9a-f]{7})`).FindStringSubmatch(first); len(m) != 3 || m[1] != m[2] {
		t.Errorf("a bridge and a link of the same ID have no more:\n%s", first)
	}
	if seq := regexp.MustCompile(`seq (\d+)[\s\S]*ack (\d+)`).FindStringSubmatch(first); len(seq) != 3 || seq[1][:9] != seq[2][:9] || seq[1] == seq[2] {
		t.Errorf("what is acknowledged is not the next: %q", seq)
	}
}

// TestShow: a command with the names of a document is run with what they stand for.
func TestShow(t *testing.T) {
	t.Parallel()
	n := NewNames()
	n.Always(`/run/x1/d1`, "/run/fairlead")
	printed := n.Hide(otherID + "\n" + oneID[:12] + " veth" + oneID[:7] + " fe:42:01:78:a0:df 192.0.2.1:40001 /run/x1/d1/netns\n")
	fields := strings.Fields(printed)
	for i, want := range []string{otherID, oneID[:12], "veth" + oneID[:7], "fe:42:01:78:a0:df"} {
		if got := n.Show("ip link set " + fields[i] + " down"); got != "ip link set "+want+" down" {
			t.Errorf("%s is run as %s, want %s", fields[i], got, want)
		}
	}
	if got := n.Show("curl http://" + fields[4] + "/"); got != "curl http://192.0.2.1:40001/" || fields[5] != "/run/fairlead/netns" {
		t.Errorf("%q: %s", fields, got)
	}
	for _, same := range []string{"ping 192.0.2.1", "nft add rule deadbee", "curl http://192.0.2.1:49999/", "02:42:ac:11:00:02", fields[1] + "00000000"} {
		if got := n.Show(same); got != same {
			t.Errorf("%s became %s", same, got)
		}
	}
}
