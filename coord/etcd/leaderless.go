package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// members are how many are asked in turn at most: of seven, three may be without a leader while the others have one.
const members = 4

// askTheNext has a member that knows no leader say so at once, and asks the next: it would keep a request for seven seconds, and a cable
// between two servers that is cut leaves one of them so. It has done nothing about what it refuses.
func askTheNext(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx = clientv3.WithRequireLeader(ctx)
	err := invoke(ctx, method, request, reply, conn, opts...)
	for n := 1; n < members && errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader); n++ {
		err = invoke(ctx, method, request, reply, conn, opts...)
	}
	return err
}
