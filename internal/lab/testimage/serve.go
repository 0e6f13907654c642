package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// serve answers:
//
//	/                    $MESSAGE, the image's version, the host name
//	/env[?name=N]        as the mode env
//	/file?path=P         the file's content; 404 when there is none
//	/ls?path=P, /id      as the modes
//	/healthz             200, or 503 after a call of /unhealthy (or with HEALTHY=false), until /healthy is called
//	/readyz              200, or 503 after a call of /unready (or with READY=false), until /ready is called
//	/status?code=N       N
//	/redirect?to=URL     302 to the URL
//	/hang                never
//	/resolve?name=N      one line an address; 404 and the error when there is none
//	/requests            one line a path that was asked for before: path, how often
//	/headers?path=P      the header of the last request for the path, Host included; 404 when there was none
//	/exit?code=N         exits with N
//
//	/from                who asks, an address and a port
//
// Every request is a line on stdout. With TLS=1 it is HTTPS, with a certificate that nobody knows. $START_DELAY is how long it
// does not listen at first. $DRAIN is how long requests under way are given at the end. A datagram to the same port is answered
// with the host name and who sent it.
func serve() error {
	told := listen()
	if ended, err := delay(told); ended || err != nil {
		return err
	}
	port := portFrom("PORT", "8080")
	listener, err := bind(port)
	if err != nil {
		return err
	}
	if os.Getenv("TLS") == "1" {
		config, err := certificate()
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, config)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: newSite()}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	packets, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", ":"+port)
	if err != nil {
		return err
	}
	go answerPackets(packets)
	drain, err := duration("DRAIN")
	if err != nil {
		return err
	}
	fmt.Println("serving on", port)
	if err := wait(told, failed); err != nil || drain == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	return server.Shutdown(ctx)
}

func answerPackets(packets net.PacketConn) {
	host, _ := os.Hostname()
	b := make([]byte, 1500)
	for {
		_, from, err := packets.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(writerTo{packets, from}, "host=%s from=%s\n", host, from)
	}
}

// writerTo writes datagrams to one address.
type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// delay waits for $START_DELAY; ended says that we were told to end before.
func delay(told <-chan os.Signal) (ended bool, err error) {
	d, err := duration("START_DELAY")
	if err != nil || d == 0 {
		return false, err
	}
	select {
	case sig := <-told:
		return true, note(sig)
	case <-time.After(d):
		return false, nil
	}
}

func portFrom(name, otherwise string) string {
	if port := os.Getenv(name); port != "" {
		return port
	}
	return otherwise
}

func bind(port string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", ":"+port)
}

// site is what serve serves.
type site struct {
	mux           *http.ServeMux
	sick, unready atomic.Bool

	mu      sync.Mutex
	counts  map[string]int
	headers map[string]http.Header
}

func newSite() *site {
	s := &site{mux: http.NewServeMux(), counts: map[string]int{}, headers: map[string]http.Header{}}
	s.sick.Store(os.Getenv("HEALTHY") == "false")
	s.unready.Store(os.Getenv("READY") == "false")

	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "%s version=%s host=%s\n", os.Getenv("MESSAGE"), os.Getenv("VERSION"), host)
	})
	s.mux.HandleFunc("/from", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.RemoteAddr) })
	s.mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { environ(w, r.URL.Query()["name"]) })
	s.mux.HandleFunc("/id", func(w http.ResponseWriter, r *http.Request) { identity(w) })
	s.found("/file", "path", show)
	s.found("/ls", "path", list)
	s.found("/resolve", "name", resolve)
	s.switched("/healthz", "/healthy", "/unhealthy", &s.sick)
	s.switched("/readyz", "/ready", "/unready", &s.unready)
	s.mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		if code < 200 || code > 599 {
			code = http.StatusBadRequest
		}
		w.WriteHeader(code)
		fmt.Fprintln(w, "status", code)
	})
	s.mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	})
	s.mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s.mux.HandleFunc("/requests", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, path := range slices.Sorted(maps.Keys(s.counts)) {
			fmt.Fprintln(w, path, s.counts[path])
		}
	})
	s.mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		header, ok := s.headers[r.URL.Query().Get("path")]
		if !ok {
			http.Error(w, "no such request", http.StatusNotFound)
			return
		}
		header.Write(w)
	})
	s.mux.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		os.Exit(code)
	})
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Println(r.Method, r.URL)
	if path := r.URL.Path; path != "/requests" && path != "/headers" {
		header := r.Header.Clone()
		header.Set("Host", r.Host)
		s.mu.Lock()
		s.counts[path]++
		s.headers[path] = header
		s.mu.Unlock()
	}
	s.mux.ServeHTTP(w, r)
}

// found serves what f writes of the query's parameter; an error is a 404.
func (s *site) found(path, parameter string, f func(w io.Writer, arg string) error) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r.URL.Query().Get(parameter)); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
}

// switched serves a check, and the two paths that make it pass and fail.
func (s *site) switched(check, pass, fail string, failing *atomic.Bool) {
	s.mux.HandleFunc(check, func(w http.ResponseWriter, r *http.Request) {
		if failing.Load() {
			http.Error(w, fail[1:], http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	})
	s.mux.HandleFunc(pass, func(http.ResponseWriter, *http.Request) { failing.Store(false) })
	s.mux.HandleFunc(fail, func(http.ResponseWriter, *http.Request) { failing.Store(true) })
}

// certificate is made on the spot and signed by itself, for localhost.
func certificate() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "skerry-test"},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

// serveTCP never closes a connection by itself.
func serveTCP() error {
	told := listen()
	if ended, err := delay(told); ended || err != nil {
		return err
	}
	port := portFrom("PORT", "8080")
	listener, err := bind(port)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				failed <- err
				return
			}
			fmt.Println("accepted", conn.RemoteAddr())
			go func() {
				io.Copy(io.Discard, conn)
				conn.Close()
			}()
		}
	}()
	fmt.Println("listening on", port)
	return wait(told, failed)
}
