package manifest

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// hook checks what is run after a start or before a stop, which has the seconds of grace to end.
func (c *checker) hook(o *corev1.LifecycleHandler, p *field.Path, ports []corev1.ContainerPort, grace int64) {
	if o == nil {
		return
	}
	c.one(p, map[string]bool{"exec": o.Exec != nil, "httpGet": o.HTTPGet != nil, "tcpSocket": o.TCPSocket != nil, "sleep": o.Sleep != nil})
	c.handler(o.Exec, o.HTTPGet, o.TCPSocket, p, ports)
	if o.Sleep != nil && (o.Sleep.Seconds < 0 || o.Sleep.Seconds > grace) {
		c.bad(p.Child("sleep", "seconds"), "must be between 0 and terminationGracePeriodSeconds, %d", max(grace, 0))
	}
}

// signals are those of Linux, real-time signals aside.
var signals = map[corev1.Signal]bool{
	corev1.SIGABRT: true, corev1.SIGALRM: true, corev1.SIGBUS: true, corev1.SIGCHLD: true, corev1.SIGCLD: true, corev1.SIGCONT: true,
	corev1.SIGFPE: true, corev1.SIGHUP: true, corev1.SIGILL: true, corev1.SIGINT: true, corev1.SIGIO: true, corev1.SIGIOT: true,
	corev1.SIGKILL: true, corev1.SIGPIPE: true, corev1.SIGPOLL: true, corev1.SIGPROF: true, corev1.SIGPWR: true, corev1.SIGQUIT: true,
	corev1.SIGSEGV: true, corev1.SIGSTKFLT: true, corev1.SIGSTOP: true, corev1.SIGSYS: true, corev1.SIGTERM: true, corev1.SIGTRAP: true,
	corev1.SIGTSTP: true, corev1.SIGTTIN: true, corev1.SIGTTOU: true, corev1.SIGURG: true, corev1.SIGUSR1: true, corev1.SIGUSR2: true,
	corev1.SIGVTALRM: true, corev1.SIGWINCH: true, corev1.SIGXCPU: true, corev1.SIGXFSZ: true, corev1.SIGRTMIN: true, corev1.SIGRTMAX: true,
}

// signal checks the name of a signal.
func (c *checker) signal(s *corev1.Signal, p *field.Path) {
	if s == nil || signals[*s] || isRealTime(string(*s), "SIGRTMIN+", 15) || isRealTime(string(*s), "SIGRTMAX-", 14) {
		return
	}
	c.bad(p, "%q is not allowed: must be the name of a signal, such as SIGINT", *s)
}

// isRealTime reports whether a signal is counted from the first or the last one of those in real time.
func isRealTime(name, from string, most int) bool {
	number, ok := strings.CutPrefix(name, from)
	n, err := strconv.Atoi(number)
	return ok && err == nil && n >= 1 && n <= most && strconv.Itoa(n) == number
}
