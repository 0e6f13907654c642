package probe

import (
	"context"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
)

// askGRPC is well when the server's health service says that the service, or without one the server, is serving.
func askGRPC(ctx context.Context, a *corev1.GRPCAction, address string) error {
	address = net.JoinHostPort(address, strconv.Itoa(int(a.Port)))
	c, err := connect(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close()
	// The one connection is all it gets: what cannot be reached is told as for other probes, and at once, and no proxy
	// or resolver is looked for.
	client, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return c, nil }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(probeAgent),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBody)),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	request := &grpc_health_v1.HealthCheckRequest{}
	if a.Service != nil {
		request.Service = *a.Service
	}
	reply, err := grpc_health_v1.NewHealthClient(client).Check(ctx, request)
	if err == nil && reply.Status == grpc_health_v1.HealthCheckResponse_SERVING {
		return nil
	}
	if err == nil {
		return unwellf("the health service says %s", reply.Status)
	}
	if ended := over(ctx); ended != nil {
		return ended
	}
	if said := status.Convert(err); said.Code() != codes.Unimplemented {
		return unwellf("%s: %s", said.Code(), said.Message())
	}
	return unwell("the server has no health service")
}
