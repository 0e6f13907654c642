package probe_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/probe"
)

// flood sends text over and over, until nobody reads it any more.
func flood(text string) func(net.Conn) {
	return func(c net.Conn) {
		b := []byte(strings.Repeat(text, 1000))
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
}

// TestHTTPAnswers: what servers may say, and how it is taken.
func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		server func(net.Conn)
		well   bool
		text   string
	}{
		{"200", says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"), true, ""},
		{"without a length", says("HTTP/1.1 200 OK\r\n\r\nok"), true, ""},
		{"HTTP/1.0", says("HTTP/1.0 200 OK\r\n\r\nok"), true, ""},
		{"in chunks", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), true, ""},
		{"left open", says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", hang), true, ""},
		{"204", says("HTTP/1.1 204 No Content\r\n\r\n"), true, ""},
		{"304", says("HTTP/1.1 304 Not Modified\r\n\r\n"), true, "HTTP 304, which leads nowhere"},
		{"redirect to nowhere", says("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), true, "HTTP 302, which leads nowhere"},
		{"399", says("HTTP/1.1 399 Odd\r\nContent-Length: 0\r\n\r\n"), true, "HTTP 399"},
		{"400", says("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), false, "HTTP 400"},
		{"503", says("HTTP/1.1 503 No\r\nContent-Length: 30\r\n\r\n\n  no database \x1b[31m\nsecond line"), false, "HTTP 503: no database [31m"},
		{"999", says("HTTP/1.1 999 What\r\n\r\nthis"), false, "HTTP 999: this"},
		{"101", says("HTTP/1.1 101 Switching Protocols\r\n\r\n"), false, "HTTP 101"},
		{"100 first", says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), true, ""},
		{"100 for ever", says("", flood("HTTP/1.1 100 Continue\r\n\r\n")), false, "the answer's header is longer than 256 KiB"},
		{"not unpacked", says("HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\n\r\nthis is no gzip"), false, "HTTP 500: this is no gzip"},
		{"failed and broken", says("HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nhalf"), false, "HTTP 500: half"},
		{"broken", says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), false, "HTTP 200, but its body broke off: the connection was closed"},
		{"broken chunk", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), false, "HTTP 200, but its body broke off: invalid byte in chunk length"},
		{"huge body", says("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", flood("a")), true, ""},
		{"endless chunks", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", flood("4\r\nabcd\r\n")), true, ""},
		{"long failure", says("HTTP/1.1 500 No\r\n\r\n", flood("a")), false, "HTTP 500: aaaaaaaaaa"},
		{"large header", says("HTTP/1.1 200 OK\r\nSet-Cookie: " + strings.Repeat("a", 200<<10) + "\r\nContent-Length: 0\r\n\r\n"), true, ""},
		{"large header, and a body in crumbs", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: "+strings.Repeat("a", 200<<10)+"\r\n\r\n", flood("1\r\na\r\n")), true, ""},
		{"huge header", says("HTTP/1.1 200 OK\r\nX: ", flood("a")), false, "the answer's header is longer than 256 KiB"},
		{"endless header", says("HTTP/1.1 200 OK\r\n", flood("X: a\r\n")), false, "the answer's header is longer than 256 KiB"},
		{"closed at once", func(net.Conn) {}, false, "ask 127.0.0.1:"},
		{"closed once asked", says(""), false, ": the connection was closed"},
		{"closed in the header", says("HTTP/1.1 200 OK\r\nServer: x\r\n"), false, ": the connection was closed"},
		{"closed in a line", says("HTTP/1.1 200 OK\r\nContent-"), false, `malformed MIME header: missing colon: "Content-"`},
		{"reset", reset, false, "connection reset by peer"},
		{"garbage", says("\x00\x01\xff nonsense\r\n\r\n"), false, "malformed HTTP"},
		{"endless garbage", says("", flood("\x00")), false, "the answer's header is longer than 256 KiB"},
		{"another protocol", func(c net.Conn) { _, _ = c.Write([]byte("220 smtp.example.com ESMTP\r\n")); hang(c) }, false, "malformed HTTP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			port, _ := rough(t, c.server)
			v := ask(t, host.Probe{Handler: httpGet(port, "/healthz")})
			expect(t, v, c.well, c.text)
			if strings.Count(v.Text, "127.0.0.1:") > 1 {
				t.Errorf("the text has a port in it that is another every time: %s", v.Text)
			}
		})
	}
	closed := nowhere(t)
	expect(t, ask(t, host.Probe{Handler: httpGet(closed, "/")}), false, fmt.Sprintf("connect to 127.0.0.1:%d: connection refused", closed))
}

// TestHTTPRequest: what a server gets to see, byte by byte.
func TestHTTPRequest(t *testing.T) {
	t.Parallel()
	type headers = []corev1.HTTPHeader
	const usual = "User-Agent: kube-probe/skerry\r\nAccept: */*\r\nConnection: close\r\n"
	for _, c := range []struct {
		name    string
		path    string
		headers headers
		want    string // of which HOST is the address
	}{
		{"nothing said", "", nil, "GET / HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"path and query", "/a/b?c=d&e=%20f", nil, "GET /a/b?c=d&e=%20f HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"only a query", "?ready=1", nil, "GET /?ready=1 HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"no slash", "healthz", nil, "GET /healthz HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"two slashes", "//other.example.com/x", nil, "GET //other.example.com/x HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"a fragment", "/a#b", nil, "GET /a HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"letters that are not for URLs", "/ä b", nil, "GET /%C3%A4%20b HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"no escape", "/100%/x?y", nil, "GET /100%25/x%3Fy HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"a line break", "/a\r\nX: y", nil, "GET /a%0D%0AX:%20y HTTP/1.1\r\nHost: HOST\r\n" + usual},
		{"host", "/", headers{{Name: "host", Value: "example.com"}}, "GET / HTTP/1.1\r\nHost: example.com\r\n" + usual},
		{"in order, and twice", "/", headers{{Name: "X-B", Value: "1"}, {Name: "x-a", Value: ""}, {Name: "X-B", Value: "2\t3"}},
			"GET / HTTP/1.1\r\nHost: HOST\r\n" + usual + "X-B: 1\r\nx-a: \r\nX-B: 2\t3\r\n"},
		{"other than usual", "/", headers{{Name: "accept", Value: "text/plain"}, {Name: "User-Agent", Value: "me"}, {Name: "Connection", Value: "keep-alive"}},
			"GET / HTTP/1.1\r\nHost: HOST\r\naccept: text/plain\r\nUser-Agent: me\r\nConnection: keep-alive\r\n"},
		{"none of the usual", "/", headers{{Name: "Accept"}, {Name: "user-agent"}}, "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n"},
		{"of a body", "/", headers{{Name: "Content-Length", Value: "5"}, {Name: "transfer-encoding", Value: "chunked"}, {Name: "Trailer", Value: "X"}},
			"GET / HTTP/1.1\r\nHost: HOST\r\n" + usual},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			port, _ := rough(t, func(conn net.Conn) {
				b := make([]byte, 4096)
				n, _ := conn.Read(b) // it is sent in one piece
				_, _ = conn.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
				got <- string(b[:n])
			})
			expect(t, ask(t, host.Probe{Handler: httpGet(port, c.path, c.headers...)}), true, "")
			want := strings.ReplaceAll(c.want, "HOST", "127.0.0.1:"+strconv.Itoa(port)) + "\r\n"
			if got := <-got; got != want {
				t.Errorf("the server got\n%q\nwant\n%q", got, want)
			}
		})
	}
}

// TestHTTPHeadersThatAreNone: nothing can be smuggled into a request, and nobody is asked.
func TestHTTPHeadersThatAreNone(t *testing.T) {
	t.Parallel()
	port, accepted := rough(t, says("HTTP/1.1 204 No Content\r\n\r\n"))
	for _, h := range []corev1.HTTPHeader{
		{Name: "", Value: "x"}, {Name: "a b", Value: "x"}, {Name: "a:", Value: "x"}, {Name: "ä", Value: "x"}, {Name: "a\r\nb", Value: "x"},
		{Name: "a", Value: "x\r\nb: y"}, {Name: "a", Value: "x\ny"}, {Name: "a", Value: "\x00"}, {Name: "Host", Value: "h\r\nb: y"},
	} {
		if v, err := new(probe.Prober).Probe(t.Context(), host.Probe{Handler: httpGet(port, "/", h)}); err == nil {
			t.Errorf("%q was sent: %+v", h, v)
		}
	}
	select {
	case <-accepted:
		t.Error("the server was asked")
	default:
	}
}

func TestHTTPRedirects(t *testing.T) {
	t.Parallel()
	serve := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/to":
			w.Header().Set("Location", r.URL.Query().Get("where"))
			w.WriteHeader(http.StatusPermanentRedirect)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/count":
			n, _ := strconv.Atoi(r.URL.Query().Get("n"))
			if n == 0 {
				return
			}
			http.Redirect(w, r, fmt.Sprintf("count?n=%d", n-1), http.StatusSeeOther)
		case "/host":
			http.Error(w, r.Host, http.StatusTeapot)
		case "/header":
			http.Error(w, r.Header.Get("X-Key"), http.StatusTeapot)
		case "/ok":
		default:
			http.Error(w, "lost", http.StatusNotFound)
		}
	}
	one := httptest.NewServer(http.HandlerFunc(serve))
	defer one.Close()
	two := httptest.NewServer(http.HandlerFunc(serve))
	defer two.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(serve))
	defer secure.Close()
	for _, c := range []struct {
		name, path string
		well       bool
		text       string
	}{
		{"same server", "/to?where=/ok", true, ""},
		{"relative", "/to?where=ok", true, ""},
		{"to a failure", "/to?where=/lost", false, "HTTP 404: lost"},
		{"another port", "/to?where=" + two.URL + "/ok", true, ""},
		{"a failure on another port", "/to?where=" + two.URL + "/lost", false, "HTTP 404: lost"},
		{"to HTTPS", "/to?where=" + secure.URL + "/ok", true, ""},
		{"another host", "/to?where=http://me:secret@example.invalid/x", true, "HTTP 308 to another host, which was not asked: http://me:xxxxx@example.invalid/x"},
		{"another name of the host", fmt.Sprintf("/to?where=http://localhost:%d/lost", portOf(two)), true, "to another host"},
		{"another scheme", "/to?where=ftp://127.0.0.1/x", false, "ftp://127.0.0.1/x is not asked, only http and https"},
		{"another kind of URL", "/to?where=mailto:me", true, "HTTP 308 to another host, which was not asked: mailto:me"},
		{"no URL", "/to?where=http://[", false, "HTTP 308 to what is no URL: http://["},
		{"nobody there", fmt.Sprintf("/to?where=http://127.0.0.1:%d/", nowhere(t)), false, "connection refused"},
		{"loop", "/loop", false, "stopped after 10 redirects"},
		{"nine", "/count?n=9", true, ""},
		{"ten", "/count?n=10", false, "stopped after 10 redirects"},
		{"host header stays", "/to?where=/host", false, "HTTP 418: www.example.com"},
		{"host header does not go along", "/to?where=" + two.URL + "/host", false, fmt.Sprintf("HTTP 418: 127.0.0.1:%d", portOf(two))},
		{"other headers go along", "/to?where=" + two.URL + "/header", false, "HTTP 418: sesame"},
	} {
		t.Run(c.name, func(t *testing.T) {
			do := httpGet(portOf(one), c.path, corev1.HTTPHeader{Name: "Host", Value: "www.example.com"}, corev1.HTTPHeader{Name: "X-Key", Value: "sesame"})
			expect(t, ask(t, host.Probe{Handler: do}), c.well, c.text)
		})
	}
}

func TestHTTPS(t *testing.T) {
	t.Parallel()
	quiet := log.New(io.Discard, "", 0)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.Error(w, r.TLS.ServerName, http.StatusNotFound)
		}
	}))
	s.Config.ErrorLog = quiet
	s.StartTLS()
	defer s.Close()
	plain := httptest.NewServer(s.Config.Handler)
	defer plain.Close()
	rude, _ := rough(t, func(net.Conn) {})
	for _, c := range []struct {
		name, scheme, host, path string
		port                     int
		well                     bool
		text                     string
	}{
		{"self-signed", "HTTPS", "", "/", portOf(s), true, ""},
		{"in small letters", "https", "", "/", portOf(s), true, ""},
		{"failing", "HTTPS", "", "/x", portOf(s), false, "HTTP 404"},
		{"by name", "HTTPS", "localhost", "/x", portOf(s), false, "HTTP 404: localhost"},
		{"of a plain server", "HTTPS", "", "/", portOf(plain), false, "tls: first record does not look like a TLS handshake"},
		{"plain, of a server that is not", "HTTP", "", "/", portOf(s), false, "HTTP 400: Client sent an HTTP request to an HTTPS server"},
		{"closed at once", "HTTPS", "", "/", rude, false, fmt.Sprintf("ask 127.0.0.1:%d: ", rude)},
		{"something else", "GOPHER", "", "/", portOf(plain), false, "is not asked, only http and https"},
	} {
		t.Run(c.name, func(t *testing.T) {
			do := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Scheme: corev1.URIScheme(c.scheme), Host: c.host, Path: c.path, Port: intstr.FromInt(c.port)}}
			expect(t, ask(t, host.Probe{Handler: do}), c.well, c.text)
		})
	}
}

func TestHTTPOverIPv6(t *testing.T) {
	t.Parallel()
	l := listen(t, "[::1]:0")
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/there":
			http.Redirect(w, r, "http://"+r.Host+"/here", http.StatusFound)
		case "/here":
			http.Error(w, r.Host, http.StatusTeapot)
		}
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	expect(t, ask(t, host.Probe{Address: "::1", Handler: httpGet(portOf(s), "/")}), true, "")
	do := httpGet(portOf(s), "/there")
	do.HTTPGet.Host = "::1"
	expect(t, ask(t, host.Probe{Address: "127.0.0.1", Handler: do}), false, fmt.Sprintf("HTTP 418: [::1]:%d", portOf(s)))
}
