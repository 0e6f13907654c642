package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"
)

// caller asks one address over and over: one question at a time, so many a second.
type caller struct {
	name    string
	network string // tcp: HTTP; udp: a datagram and its answer
	address string
	kept    bool // over a connection that is kept, or from one port
	process int  // in whose network namespace; 0: the machine's
}

// callEvery paces callers, so that what they watch has time of the processor, too.
const callEvery = 4 * time.Millisecond

// callAll asks until stop is called, which says how often that was and how often it failed. Failures are in the test's log.
func callAll(t *testing.T, callers ...caller) (stop func() (asked, failed int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var asked, failed int
	var all sync.WaitGroup
	for _, a := range callers {
		all.Go(func() {
			ask, end := a.client() //nolint:contextcheck // the question that is under way at the end is to be answered
			defer end()
			tick := time.NewTicker(callEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				began := time.Now()
				err := ask()
				mu.Lock()
				asked++
				if err != nil {
					failed++
					if failed < 50 {
						t.Logf("%s, %s after it was asked at %s: %v", a.name, time.Since(began), began.UTC().Format("15:04:05.000"), err)
					}
				}
				mu.Unlock()
				<-tick.C
			}
		})
	}
	return func() (int, int) {
		cancel()
		all.Wait()
		return asked, failed
	}
}

// callTimeout is that of one question: longer than what TCP takes to send lost packets again twice.
const callTimeout = 5 * time.Second

// client is how to ask once.
func (a caller) client() (ask func() error, end func()) {
	if a.network == "udp" {
		return a.datagrams()
	}
	transport := &http.Transport{DisableKeepAlives: !a.kept, DialContext: a.dial}
	client := &http.Client{Timeout: callTimeout, Transport: transport}
	return func() error {
		response, err := client.Get("http://" + a.address + "/") //nolint:noctx // the one that is under way at the end is to be answered
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if _, err = io.Copy(io.Discard, response.Body); err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %s", response.Status)
		}
		return err
	}, transport.CloseIdleConnections
}

func (a caller) datagrams() (ask func() error, end func()) {
	var conn net.Conn
	end = func() {
		if conn != nil {
			_ = conn.Close()
			conn = nil
		}
	}
	b := make([]byte, 1500)
	return func() (err error) {
		if conn == nil {
			if conn, err = a.dial(context.Background(), "udp", a.address); err != nil {
				return err
			}
		}
		if !a.kept {
			defer end()
		}
		// What is on its way back when its flow is led elsewhere is lost, as in every cluster: whoever uses UDP asks again.
		for range callTimeout / time.Second {
			if err = conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			if _, err = conn.Write([]byte("?")); err != nil {
				return err
			}
			if _, err = conn.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
		}
		return err
	}, end
}

// dial dials in the caller's network namespace.
func (a caller) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if a.process == 0 {
		return (&net.Dialer{Timeout: callTimeout}).DialContext(ctx, network, address)
	}
	return dialIn(fmt.Sprintf("/proc/%d/ns/net", a.process))(ctx, network, address)
}
