package manifest

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	for signal, want := range map[corev1.Signal]bool{
		corev1.SIGTERM: true, corev1.SIGUSR2: true, corev1.SIGRTMIN: true, corev1.SIGRTMINPLUS1: true, corev1.SIGRTMINPLUS15: true,
		corev1.SIGRTMAXMINUS14: true, corev1.SIGRTMAXMINUS1: true, corev1.SIGRTMAX: true,
		"": false, "TERM": false, "sigterm": false, "15": false, "SIGRTMIN+0": false, "SIGRTMIN+16": false, "SIGRTMIN+": false,
		"SIGRTMIN++1": false, "SIGRTMAX-15": false, "SIGRTMAX+1": false,
	} {
		c := checker{}
		if c.signal(&signal, field.NewPath("x")); (len(c.problems) == 0) != want {
			t.Errorf("%q: got %v", signal, c.problems)
		}
	}
}

func TestSysctlNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"net.ipv4.tcp_syncookies": "net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies": "net.ipv4.tcp_syncookies",
		"net/ipv4/conf/eth0.100/forwarding": "net.ipv4.conf.eth0/100.forwarding", "net.ipv4.conf.eth0/100.forwarding": "net.ipv4.conf.eth0/100.forwarding",
		"plain": "plain", "": "",
	} {
		if got := fleet.SysctlName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string][2]bool{
		"net.core.somaxconn": {true, true}, "network": {false, false}, "kernel.shmmax": {false, true}, "kernel.msgmnb": {false, true},
		"kernel.sem": {false, true}, "kernel.semaphore": {false, false}, "fs.mqueue.msg_max": {false, true}, "fs.mqueues": {false, false},
	} {
		if network, namespaced := sysctlNamespace(name); [2]bool{network, namespaced} != want {
			t.Errorf("%s: got %v %v", name, network, namespaced)
		}
	}
}
