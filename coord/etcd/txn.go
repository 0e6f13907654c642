package etcd

import (
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What fits into one transaction of an etcd that has its defaults (128 operations, 1.5 MiB), with room for guards.
const (
	mostOps   = 120
	mostBytes = 1 << 20
)

// op is one write.
type op struct {
	key   string
	value []byte
	lease clientv3.LeaseID // 0: none
	gone  bool
	below bool // gone, and all that begins with the key
}

func (o op) size() int { return len(o.key) + len(o.value) }

func clientOps(ops []op) []clientv3.Op {
	list := make([]clientv3.Op, 0, len(ops))
	for _, o := range ops {
		switch {
		case o.below:
			list = append(list, clientv3.OpDelete(o.key, clientv3.WithPrefix()))
		case o.gone:
			list = append(list, clientv3.OpDelete(o.key))
		case o.lease != 0:
			list = append(list, clientv3.OpPut(o.key, string(o.value), clientv3.WithLease(o.lease)))
		default:
			list = append(list, clientv3.OpPut(o.key, string(o.value)))
		}
	}
	return list
}

// batches cuts writes into such as fit into one transaction each, in their order.
func batches(ops []op) [][]op {
	var list [][]op
	from, size := 0, 0
	for i, o := range ops {
		if i > from && (i-from == mostOps || size+o.size() > mostBytes) {
			list = append(list, ops[from:i])
			from, size = i, 0
		}
		size += o.size()
	}
	if from < len(ops) {
		list = append(list, ops[from:])
	}
	return list
}

// short is the key of an op without the prefix of all keys.
func (o op) short(prefix string) string { return strings.TrimPrefix(o.key, prefix) }
