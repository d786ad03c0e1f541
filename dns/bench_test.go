package dns

import (
	"context"
	"testing"

	wire "github.com/miekg/dns"
)

func BenchmarkLocal(b *testing.B) {
	r := site(&upstream{})
	packed, _ := question("web", wire.TypeA).Pack()
	b.ReportAllocs()
	for b.Loop() {
		if answer, _ := r.Answer("db", packed, UDP); answer == nil {
			b.Fatal("no answer")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
}

func BenchmarkCached(b *testing.B) {
	r := site(&upstream{answer: func(a asked) ([]*wire.Msg, error) {
		return []*wire.Msg{says(a, wire.RcodeSuccess, "x.example. 3000 IN A 192.0.2.7")}, nil
	}})
	packed, _ := question("x.example", wire.TypeA).Pack()
	b.ReportAllocs()
	for b.Loop() {
		_, ahead := r.Answer("db", packed, UDP)
		if answer := r.Forward(context.Background(), ahead); answer == nil {
			b.Fatal("no answer")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
}
