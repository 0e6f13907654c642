package main

import (
	"context"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/hostnet"
)

// addresses are those that others reach this node at.
func (m *membership) addresses() []netip.Addr {
	var list []netip.Addr
	host, _, err := net.SplitHostPort(m.Listen)
	if err != nil {
		host = ""
	}
	for _, text := range []string{host, m.config.Node.Address} {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// servers are fleet addresses of servers.
func (m *membership) servers(ctx context.Context) []string {
	var list []string
	if nodes, err := m.store.Nodes(ctx); err == nil {
		for _, n := range nodes {
			if n.Server && n.Fleet != "" && n.Name != m.identity.Name() {
				list = append(list, n.Fleet)
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.Servers {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// follow keeps what the node has to know to find its fleet again, and calls changed when the fleet's charter, this node's part of the
// pod network or its address is another than it was when it began.
func (m *membership) follow(ctx context.Context, changed func()) {
	rang := make(chan struct{}, 1)
	go func() {
		_ = m.store.Watch(ctx, func() {
			select {
			case rang <- struct{}{}:
			default:
			}
		})
	}()
	moved := make(chan struct{}, 1)
	go func() {
		err := hostnet.WatchRoutes(ctx, func() {
			select {
			case moved <- struct{}{}:
			default:
			}
		})
		if err != nil {
			m.log.Warn("it is not followed when this machine gets another address", "err", err)
		}
	}()
	m.meet(ctx)
	began, err := m.store.Charter(ctx)
	was, _ := m.own(ctx)
	if err != nil {
		m.log.Warn("what the fleet goes by cannot be read", "err", err)
	}
	located := true // it is said when the agent starts
	var doubted time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-rang:
		case <-moved:
			located = false
		}
		m.meet(ctx)
		if m.store.Away() == "" {
			m.found(ctx)
			m.settle(ctx)
			m.remember(ctx)
			if !m.onRoll(ctx) && time.Since(doubted) > doubtEvery {
				m.disown(ctx)
				doubted = time.Now()
			}
			located = located || m.relocate(ctx)
		}
		own, _ := m.own(ctx)
		if now, err := m.store.Charter(ctx); err == nil && (!reflect.DeepEqual(now, began) || own.Pods != was.Pods || was.Address != "" && own.Address != was.Address) {
			changed()
			began = now
		}
		was = own
	}
}

// found gives the fleet its charter, where it has none yet: that of its first server's configuration.
func (m *membership) found(ctx context.Context) {
	if m.Existing || m.Role != pki.RoleServer {
		return
	}
	if now, err := m.store.Charter(ctx); err != nil || !reflect.DeepEqual(now, fleet.Charter{}) {
		return
	}
	if err := m.store.Found(ctx, m.node(m.config.node()), m.config.charter()); err != nil {
		m.log.Warn("the fleet cannot be told what it goes by", "err", err)
	}
}

// remember keeps where servers are: they come and go, and this node has to find one when it starts.
func (m *membership) remember(ctx context.Context) {
	nodes, err := m.store.Nodes(ctx)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.Membership
	next.Servers, next.Endpoints = nil, nil
	for _, n := range nodes {
		if !n.Voter || n.Fleet == "" {
			continue
		}
		endpoint, err := etcdURL(n.Fleet, clientPort)
		if err != nil {
			continue
		}
		next.Servers, next.Endpoints = append(next.Servers, n.Fleet), append(next.Endpoints, endpoint)
	}
	if m.config.Fleet.external() || len(next.Servers) == 0 || slices.Equal(next.Servers, m.Servers) && slices.Equal(next.Endpoints, m.Endpoints) {
		return
	}
	if err := next.Save(m.config.fleetDir()); err != nil {
		m.log.Warn("where the servers of the fleet are cannot be kept", "err", err)
		return
	}
	m.Servers, m.Endpoints = next.Servers, next.Endpoints
	m.store.SetEndpoints(m.near())
}

// etcdURL is where the etcd of a node serves, by its fleet address.
func etcdURL(address string, port int) (string, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	base, err := strconv.Atoi(text)
	if err != nil {
		return "", err
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(base+port)), nil
}
