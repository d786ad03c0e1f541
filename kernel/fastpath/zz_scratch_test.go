package fastpath_test

import "testing"
import "net"
import "io"
import "strconv"

func TestZZ(t *testing.T) {
	r := newRoad(t)
	k := r.talk(ways[0].fromContainer, ways[0].to, ways[0].comesTo)
	f := r.flow(k)
	if err := r.path.AddFlow(f); err != nil { t.Fatal(err) }
	buf := make([]byte, 1<<20)
	go func(c net.Conn) { for i := 0; i < 2600; i++ { if _, err := c.Write(buf); err != nil { return } } }(k.outside)
	n, err := io.CopyN(io.Discard, k.container, 2600<<20)
	t.Log(n, err, "invalid before: "+strconv.Itoa(r.count("invalid")))
	t.Log(endings[2].run(k))
	t.Log("invalid after", r.count("invalid"))
}
