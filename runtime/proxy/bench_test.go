package proxy

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

// BenchmarkAgainstDirect goes to an end by way of a node port and directly, in turns on the loopback: with one long stream, with
// connections that are made for one byte, and with datagrams that are answered one after another. Clients, ends and the Proxy
// share one process and its processors. What counts are the ratios, each the median of all rounds.
func BenchmarkAgainstDirect(b *testing.B) {
	const (
		stream    = 128 << 20
		piece     = 128 << 10
		conns     = 500
		clients   = 4
		datagrams = 1000
	)
	sink := accepting(b, "127.0.0.1:0", func(c *net.TCPConn) {
		buf := make([]byte, piece)
		for err := error(nil); err == nil; {
			_, err = c.Read(buf)
		}
		_, _ = io.WriteString(c, "a")
	})
	greeter := accepting(b, "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.WriteString(c, "a") })
	echo := answering(b, "127.0.0.1:0", "a")
	words := make([]byte, piece)

	for _, load := range []struct {
		name  string
		unit  string
		end   fleet.End
		front func(uint16, ...fleet.End) fleet.Front
		much  float64 // of the unit, a round
		round func(b *testing.B, at string)
	}{
		{"stream", "MB/s", sink, tcp, stream / 1e6, func(b *testing.B, at string) {
			c := dial(b, "tcp", at).(*net.TCPConn)
			for range stream / piece {
				if _, err := c.Write(words); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.CloseWrite()
			if name, err := who(c); name != "a" { // it has all
				b.Fatal(err)
			}
			_ = c.Close()
		}},
		{"connections", "conns/s", greeter, tcp, conns, func(b *testing.B, at string) {
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for range conns / clients {
						if name, err := visit(b.Context(), at); name != "a" {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		}},
		{"datagrams", "answers/s", echo, udp, datagrams, func(b *testing.B, at string) {
			c := dial(b, "udp", at)
			for range datagrams {
				ask(b, c, "?")
			}
			_ = c.Close()
		}},
	} {
		b.Run(load.name, func(b *testing.B) {
			p, number := begin(b), lab.Port(b)
			serve(b, p, load.front(number, load.end))
			var direct, proxied, ratio []float64
			rate := func(at string) float64 {
				begun := time.Now()
				load.round(b, at)
				return load.much / time.Since(begun).Seconds()
			}
			for b.Loop() {
				d, p := rate(local(load.end.Port)), rate(local(number))
				direct, proxied, ratio = append(direct, d), append(proxied, p), append(ratio, p/d)
			}
			b.ReportMetric(median(direct), "direct-"+load.unit)
			b.ReportMetric(median(proxied), "proxied-"+load.unit)
			b.ReportMetric(median(ratio), "proxied/direct")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}
