package check

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
)

func ask(t *testing.T, number uint16) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", number)) //nolint:noctx // it is answered at once
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, strings.TrimSpace(string(body))
}

func TestServe(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	web := fleet.ObjectID{Kind: fleet.KindService, Namespace: "shop", Name: "web"}
	number, other := lab.Port(t), lab.Port(t)
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf(":%d", other))
	if err != nil {
		t.Fatal(err)
	}
	check := func(ends int) fleet.HealthCheck { return fleet.HealthCheck{Service: web, Number: number, Ends: ends} }
	if err := s.Serve(t.Context(), []fleet.HealthCheck{{Service: web, Number: other}, check(2)}); !errors.Is(err, host.ErrConflict) {
		t.Errorf("a port that is taken: %v", err)
	}
	const body = `{"service":{"namespace":"shop","name":"web"},"localEndpoints":%d,"serviceProxyHealthy":true}`
	if code, got := ask(t, number); code != http.StatusOK || got != fmt.Sprintf(body, 2) {
		t.Errorf("%d, %s", code, got)
	}
	taken.Close()
	if err := s.Serve(t.Context(), []fleet.HealthCheck{{Service: web, Number: other}, check(0)}); err != nil {
		t.Error(err)
	}
	if code, got := ask(t, number); code != http.StatusServiceUnavailable || got != fmt.Sprintf(body, 0) {
		t.Errorf("%d, %s", code, got)
	}
	if code, _ := ask(t, other); code != http.StatusServiceUnavailable {
		t.Errorf("what was taken and is free: %d", code)
	}
	if err := s.Serve(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if code, _ := ask(t, number); code != 0 {
		t.Errorf("what is wanted no more: %d", code)
	}
}
