package podman

import (
	"errors"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

func TestLocalAddresses(t *testing.T) {
	const onePod = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.88.0.0/16 2 0 2
        +-- 10.88.0.0/28 2 0 2
           |-- 10.88.0.0
              /16 link UNICAST
           |-- 10.88.0.12
              /32 host LOCAL
        |-- 10.88.255.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
Local:
           |-- 10.88.0.12
              /32 host LOCAL
           |-- 10.99.0.3
              /32 host LOCAL
`
	for _, c := range []struct {
		name, trie string
		want       []netip.Addr
	}{
		{"nothing", "", nil},
		{"loopback alone", "Local:\n |-- 127.0.0.1\n  /32 host LOCAL\n", nil},
		{"two, one of them twice", onePod, []netip.Addr{netip.MustParseAddr("10.88.0.12"), netip.MustParseAddr("10.99.0.3")}},
		{"a network is no address", " |-- 10.0.0.0\n  /8 host LOCAL\n", nil},
		{"garbage", "|-- x\n/32 host LOCAL\n/32 host LOCAL\n", nil},
		{"no leaf before", "/32 host LOCAL\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, localAddresses([]byte(c.trie)), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCgroups(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       map[string]string
	}{
		{"version 1", "5:memory:/a\n4:cpu,cpuacct:/b\n1:name=systemd:/c\n", map[string]string{"memory": "/a", "cpu": "/b", "cpuacct": "/b", "name=systemd": "/c"}},
		{"version 2", "0::/user.slice/x\n", map[string]string{"": "/user.slice/x"}},
		{"hybrid", "2:memory:/a\n0::/\n", map[string]string{"memory": "/a", "": "/"}},
		{"a path with colons", "0::/a:b:c\n", map[string]string{"": "/a:b:c"}},
		{"garbage", "x\n\n1:2\n", map[string]string{}},
		{"nothing", "", map[string]string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, cgroups([]byte(c.text))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
		ok   bool
	}{
		{"67108864\n", 67108864, true},
		{"max\n", 0, true},
		{"max 100000\n", 0, true},
		{"50000 100000\n", 50000, true},
		{"-1\n", 0, true},
		{"9223372036854771712\n", 0, true}, // version 1's unlimited memory
		{"0\n", 0, true},
		{"", 0, false},
		{"x", 0, false},
	} {
		file := filepath.Join(t.TempDir(), "limit")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := number(file); got != c.want || ok != c.ok {
			t.Errorf("%q is %d, %v; want %d, %v", c.text, got, ok, c.want, c.ok)
		}
	}
	if _, ok := number(filepath.Join(t.TempDir(), "none")); ok {
		t.Error("a file that is not there has a number")
	}
}

func TestState(t *testing.T) {
	for podman, want := range map[string]fleet.ContainerState{
		"created": fleet.Created, "configured": fleet.Created, "initialized": fleet.Created, "running": fleet.Running,
		"paused": fleet.Paused, "exited": fleet.Exited, "stopped": fleet.Exited, "stopping": fleet.Stopping,
		"removing": fleet.Unknown, "unknown": fleet.Unknown, "": fleet.Unknown, "bad state": fleet.Unknown,
	} {
		if got := state(podman); got != want {
			t.Errorf("%q is %s, want %s", podman, got, want)
		}
	}
}

func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		code int
		text string
		want error
	}{
		{404, "no container with name or ID \"x\" found: no such container", host.ErrNotFound},
		{500, "no pod with name or ID x found: no such pod", host.ErrNotFound},
		{500, "localhost/x:1: image not known", host.ErrNotFound},
		{500, "adding pod to state: name \"a_b\" is in use: pod already exists", host.ErrConflict},
		{500, "creating container storage: the container name \"a\" is already in use by 123. You have to remove that container to be able to reuse that name: that name is already in use", host.ErrConflict},
		{500, "cannot listen on the TCP port: listen tcp4 :80: bind: address already in use\n", host.ErrConflict},
		{409, "container abc is paused", nil},
		{500, "runc: exec: \"/no\": stat /no: no such file or directory", nil},
		{500, "", nil},
	} {
		err := kindOf(c.code, c.text)
		for _, kind := range []error{host.ErrNotFound, host.ErrConflict, host.ErrUnavailable} {
			if errors.Is(err, kind) != errors.Is(c.want, kind) {
				t.Errorf("%d %q is %v, want %v", c.code, c.text, err, c.want)
			}
		}
		if err == nil {
			t.Errorf("%d %q is no error", c.code, c.text)
		}
	}
}

func TestPullError(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
		gone bool // Podman cannot be reached
	}{
		{"one line", errors.New("reading manifest 1: manifest unknown"), "reading manifest 1: manifest unknown", false},
		{"several lines", errors.New("2 errors occurred:\n\t* a\n\t* unauthorized"), "* unauthorized", false},
		{"no service", &url.Error{Op: "Post", URL: "http://d/pull", Err: errors.New("connection refused")}, "", true},
		{"the service died", errors.New("unexpected EOF"), "", true},
		{"it died, in several lines", &url.Error{Op: "Post", URL: "http://d/pull", Err: errors.New("one\ntwo")}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := pullError(t.Context(), c.err)
			if errors.Is(err, host.ErrUnavailable) != c.gone || (!c.gone && err.Error() != c.want) {
				t.Errorf("it is %v", err)
			}
		})
	}
}
