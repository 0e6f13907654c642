package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// serveGRPC has the health of the server as a whole, and of each of the SERVICES (a,b), all of them SERVING at
// first, or with HEALTHY=false NOT_SERVING. By HTTP, /unhealthy and /healthy switch all of them, or those that are
// named: /unhealthy?service=a. $START_DELAY is as with serve.
func serveGRPC() error {
	told := listen()
	if ended, err := delay(told); ended || err != nil {
		return err
	}
	services := []string{""}
	for _, name := range strings.Split(os.Getenv("SERVICES"), ",") {
		if name != "" {
			services = append(services, name)
		}
	}
	state := health.NewServer()
	set := func(names []string, status healthpb.HealthCheckResponse_ServingStatus) {
		if len(names) == 0 {
			names = services
		}
		for _, name := range names {
			state.SetServingStatus(name, status)
		}
	}
	initial := healthpb.HealthCheckResponse_SERVING
	if os.Getenv("HEALTHY") == "false" {
		initial = healthpb.HealthCheckResponse_NOT_SERVING
	}
	set(nil, initial)

	control := http.NewServeMux()
	for path, status := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		"/healthy": healthpb.HealthCheckResponse_SERVING, "/unhealthy": healthpb.HealthCheckResponse_NOT_SERVING,
	} {
		control.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			fmt.Println(r.Method, r.URL)
			set(r.URL.Query()["service"], status)
		})
	}
	site := &http.Server{
		Addr: ":" + portFrom("CONTROL_PORT", "8080"), ReadHeaderTimeout: time.Minute, Handler: control,
	}
	port := portFrom("PORT", "9090")
	listener, err := bind(port)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, state)
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	go func() { failed <- site.ListenAndServe() }()
	fmt.Println("serving on", port)
	return wait(told, failed)
}
