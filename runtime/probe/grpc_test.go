package probe_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/runtime/host"
)

// healthServer serves gRPC with a health service, unless what is to be served is another; it returns the port.
func healthServer(t testing.TB, s *grpc.Server) int {
	t.Helper()
	if s == nil {
		s = grpc.NewServer()
		state := health.NewServer()
		state.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
		state.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		state.SetServingStatus("odd", grpc_health_v1.HealthCheckResponse_UNKNOWN)
		grpc_health_v1.RegisterHealthServer(s, state)
	}
	l := listen(t, "127.0.0.1:0")
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// refuses is a health service that says no.
type refuses struct {
	grpc_health_v1.UnimplementedHealthServer
	agent chan []string
}

func (r refuses) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	r.agent <- md.Get("user-agent")
	return nil, status.Error(codes.PermissionDenied, "not\nfor you")
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	good := healthServer(t, nil)
	without := healthServer(t, grpc.NewServer())
	refusing := grpc.NewServer()
	agent := make(chan []string, 1)
	grpc_health_v1.RegisterHealthServer(refusing, refuses{agent: agent})
	rude, _ := rough(t, func(net.Conn) {})
	garbage, _ := rough(t, says("", func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat("nonsense\x00\n", 100))) }))
	resetting, _ := rough(t, reset)
	plain, _ := rough(t, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); hang(c) })
	closed := nowhere(t)
	for _, c := range []struct {
		name    string
		port    int
		service *string
		well    bool
		text    string
	}{
		{"the server", good, nil, true, ""},
		{"no name", good, new(""), true, ""},
		{"a service", good, new("up"), true, ""},
		{"down", good, new("down"), false, "the health service says NOT_SERVING"},
		{"odd", good, new("odd"), false, "the health service says UNKNOWN"},
		{"not known", good, new("nobody"), false, "NotFound: unknown service"},
		{"no health service", without, nil, false, "the server has no health service"},
		{"refusing", healthServer(t, refusing), nil, false, "PermissionDenied: not for you"},
		{"closed at once", rude, nil, false, "Unavailable: "},
		{"reset", resetting, nil, false, "Unavailable: "},
		{"garbage", garbage, nil, false, "Unavailable: "},
		{"plain HTTP", plain, nil, false, "Unavailable: "},
		{"nobody there", closed, nil, false, fmt.Sprintf("connect to 127.0.0.1:%d: connection refused", closed)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := ask(t, host.Probe{Handler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(c.port), Service: c.service}}})
			expect(t, v, c.well, c.text)
			if strings.Count(v.Text, "127.0.0.1:") > 1 {
				t.Errorf("the text has a port in it that is another every time: %s", v.Text)
			}
			if c.name == "refusing" {
				if got := <-agent; len(got) != 1 || !strings.HasPrefix(got[0], "kube-probe/skerry ") {
					t.Errorf("it said that it is %q", got)
				}
			}
		})
	}
}
