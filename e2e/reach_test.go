package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const dropped = 300 * time.Millisecond // how long to wait for an answer that is not to come

// TestNetworkPolicy: who may reach a pod changes with a commit, at once, and nothing is started anew for it.
func TestNetworkPolicy(t *testing.T) {
	w := newWorld(t)
	w.config(servicesOn)
	w.setting("bridge/bridge-nf-call-iptables", "0")
	outside := w.outside()
	w.write("pods.yaml", strings.Join([]string{
		w.labelled("db", "{app: db}", "serve"), w.labelled("friend", "{app: friend}", "serve"), w.labelled("stranger", "{app: stranger}", "serve"),
		"apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {type: NodePort, clusterIP: 10.43.7.7, selector: {app: db}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}\n",
	}, "---\n"))
	w.commit("pods")
	w.start()
	w.must("sync", "--wait", "60s")
	before := ids(w.pods(), "db", "friend", "stranger")
	db := w.untilPod("db", "ready", ready).Status.PodIP + ":8080"
	from := map[string]int{"friend": w.podPid("friend"), "stranger": w.podPid("stranger"), "outside": outside, "machine": 0}

	// reaches names those that reach the pod, by its own address and by its Service.
	reaches := func(t *testing.T, want string) {
		t.Helper()
		for name, process := range from {
			addresses := []string{db, "10.43.7.7:80"}
			if name == "outside" {
				addresses = []string{"192.168.77.1:30080"}
			}
			for _, address := range addresses {
				limit := dropped
				if strings.Contains(want, name) {
					limit = callTimeout
				}
				if _, err := askWithin(process, address, "/", limit); (err == nil) != strings.Contains(want, name) {
					t.Errorf("%s at %s: %v", name, address, err)
				}
			}
		}
	}
	policy := func(spec string) {
		w.write("policy.yaml", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db}\nspec: "+spec+"\n")
		w.commit("policy " + spec)
		w.must("sync", "--wait", "30s")
	}
	w.scene("without a policy everybody does", func(t *testing.T) { reaches(t, "machine friend stranger outside") })
	w.scene("one friend alone", func(t *testing.T) {
		policy("{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: 8080}]}]}")
		reaches(t, "machine friend")
	})
	w.scene("and outside", func(t *testing.T) {
		policy("{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 192.168.77.0/24}}]}]}")
		reaches(t, "machine outside")
	})
	w.scene("who may not go out", func(t *testing.T) {
		policy("{podSelector: {matchLabels: {app: stranger}}, policyTypes: [Egress], egress: []}")
		reaches(t, "machine friend outside")
	})
	w.scene("a policy that goes holds nobody back", func(t *testing.T) {
		w.remove("policy.yaml")
		w.commit("no policy")
		w.must("sync", "--wait", "30s")
		reaches(t, "machine friend stranger outside")
	})
	w.scene("nothing was started anew", func(t *testing.T) {
		if after := ids(w.pods(), "db", "friend", "stranger"); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("before %v, after %v", before, after)
		}
	})
}

// labelled is a pod with labels, without volumes.
func (w *world) labelled(name, labels, args string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: %s}\nspec: {terminationGracePeriodSeconds: 2, containers: [{name: main, image: '%s', args: [%s], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]}\n",
		name, labels, w.image, args)
}

// TestLoadBalancer: a Service has an address of a pool that clients on the machine's network find by themselves.
func TestLoadBalancer(t *testing.T) {
	w := newWorld(t)
	w.config("network: {services: \"on\", loadBalancerPools: [{name: home, cidrs: [192.168.77.240/30]}]}\n")
	outside := w.outside()
	balanced := func(more string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: LoadBalancer, selector: {app: web}, externalTrafficPolicy: Local, healthCheckNodePort: 30099, ports: [{port: 80, targetPort: 8080}]" + more + "}\n"
	}
	w.write("web.yaml", w.labelled("web", "{app: web}", "serve")+"---\n"+balanced(", loadBalancerIP: 192.168.77.241"))
	w.commit("web")
	w.start()
	w.must("sync", "--wait", "60s")
	const address = "192.168.77.241:80"
	w.scene("who is on the network reaches it, and is seen", func(t *testing.T) {
		if got := fromOf(t, outside, address); got != "192.168.77.2" {
			t.Errorf("seen as %s", got)
		}
		if out := w.must("status"); !strings.Contains(out, "Service/default/web  LoadBalancer") || !strings.Contains(out, "  192.168.77.241  80:") {
			t.Errorf("status:\n%s", out)
		}
	})
	w.scene("balancers are told that it is here", func(t *testing.T) {
		if got, err := askOf(outside, "192.168.77.1:30099", "/healthz"); err != nil || !strings.Contains(got, `"localEndpoints":1`) {
			t.Errorf("%s, %v", got, err)
		}
	})
	w.scene("a machine alone starts nothing of a fleet", func(t *testing.T) {
		for what, command := range map[string]string{
			"a socket for other nodes":  "grep -i ':1D13 ' /proc/net/udp /proc/net/udp6 /proc/net/tcp /proc/net/tcp6", // 7443
			"a socket for neighbours":   "tail -n +2 /proc/net/packet",
			"a route to other nodes":    "ip route show table all proto 83",
			"a tunnel":                  "ip link show type vxlan; ip link | grep skerry-",
			"a filter at the link":      "tc filter show dev vout ingress; tc filter show dev vout egress",
			"a fence by nftables":       "nft list tables | grep vip",
			"an address behind a fence": "ip addr show | grep ':vip'",
		} {
			if out := strings.TrimSpace(w.sh("{ " + command + "; } || true")); out != "" {
				t.Errorf("%s: %s", what, out)
			}
		}
	})
	w.scene("only who may", func(t *testing.T) {
		w.write("web.yaml", w.labelled("web", "{app: web}", "serve")+"---\n"+balanced(", loadBalancerIP: 192.168.77.241, loadBalancerSourceRanges: [192.168.77.8/29]"))
		w.commit("others only")
		w.must("sync", "--wait", "30s")
		if _, err := askWithin(outside, address, "/", dropped); err == nil {
			t.Error("who is not in the ranges is let through")
		}
	})
	w.scene("the address goes with the Service", func(t *testing.T) {
		w.write("web.yaml", w.labelled("web", "{app: web}", "serve"))
		w.commit("no Service")
		w.must("sync", "--wait", "30s")
		if out := w.sh("ip addr show dev vout"); strings.Contains(out, "192.168.77.241") {
			t.Errorf("still there:\n%s", out)
		}
	})
}

// TestNodePortsByProxy: with network.services off node ports are served all the same, nobody is refused while pods are replaced, and
// nothing of the machine is changed.
func TestNodePortsByProxy(t *testing.T) {
	w := newWorld(t)
	w.config("network: {services: \"off\"}\n")
	w.write("web.yaml", service(w.image, "0", 2))
	w.commit("web")
	w.start()
	w.must("sync", "--wait", "60s")
	var callers []caller
	for _, network := range []string{"tcp", "udp"} {
		for _, kept := range []bool{false, true} {
			callers = append(callers, caller{fmt.Sprintf("%s kept %v", network, kept), network, "127.0.0.1:30080", kept, 0})
		}
	}
	w.scene("nobody is refused", func(t *testing.T) {
		stop := callAll(t, callers...)
		for i := range 3 {
			w.write("web.yaml", service(w.image, fmt.Sprint(i+1), 2))
			w.commit("roll")
			w.must("sync", "--wait", "60s")
		}
		asked, failed := stop()
		t.Logf("%d asked, %d failed", asked, failed)
		if failed > 0 || asked < 1000 {
			t.Errorf("%d of %d failed", failed, asked)
		}
	})
	w.scene("status says what is missing", func(t *testing.T) {
		out := w.must("status")
		for _, want := range []string{
			"Note: Service/default/web: it is reached at its node ports alone, not by its name or at an address of its own: network.services is off",
			"Note: Service/default/nobody: nobody reaches it by its name or at an address of its own: network.services is off",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("status does not say %q:\n%s", want, out)
			}
		}
	})
	w.scene("nothing of ours is on the machine", func(t *testing.T) {
		w.remove("web.yaml")
		w.write("other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {}\n")
		w.commit("nothing")
		w.must("sync", "--wait", "60s")
		if out := w.sh("nft list ruleset; ip addr; ip route"); strings.Contains(out, "skerry") || strings.Contains(out, "10.43.") {
			t.Error(out)
		}
		if _, err := askWithin(0, "127.0.0.1:30080", "/", dropped); err == nil {
			t.Error("the port still answers")
		}
		if p := w.pods(); len(p) > 0 {
			t.Errorf("pods: %v", p)
		}
	})
}

// TestBridgeThatPodmanLost: a link that was left when Podman's own storage was reset is in nobody's way.
func TestBridgeThatPodmanLost(t *testing.T) {
	w := newWorld(t)
	w.config(servicesOn)
	w.sh("ip link add skerry0 type bridge && ip addr add 10.42.0.1/24 dev skerry0 && ip link set skerry0 up")
	w.write("web.yaml", w.labelled("web", "{app: web}", "serve"))
	w.commit("web")
	w.start()
	w.must("sync", "--wait", "60s")
	if ip := w.untilPod("web", "ready", ready).Status.PodIP; !strings.HasPrefix(ip, "10.42.0.") {
		t.Errorf("it is at %s", ip)
	}
}
