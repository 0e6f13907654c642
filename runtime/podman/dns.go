package podman

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/containers/podman/v4/pkg/specgen"

	"github.com/skerry-dev/skerry/runtime/host"
)

// resolver sets how a pod resolves names. A pod that asks for nothing gets what Podman gives it; as soon as it does,
// Podman takes nothing from the machine any more, so that what the machine has is put in here.
func resolver(p *specgen.PodSpecGenerator, d host.DNS) error {
	if !d.Alone && len(d.Nameservers)+len(d.Searches)+len(d.Options) == 0 {
		return nil
	}
	all := d
	if !d.Alone {
		machine, err := machineResolver()
		if err != nil {
			return fmt.Errorf("how this machine resolves names: %w", err)
		}
		all = merge(machine, d)
	}
	for _, server := range all.Nameservers {
		ip := net.ParseIP(server)
		if ip == nil {
			return fmt.Errorf("name server %q is no IP address", server)
		}
		p.DNSServer = append(p.DNSServer, ip)
	}
	p.DNSSearch, p.DNSOption = all.Searches, all.Options
	return nil
}

// machineResolver is how this machine resolves names. Where systemd-resolved does it, on the loopback, those count that
// it asks itself.
func machineResolver() (host.DNS, error) {
	raw, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return host.DNS{}, err
	}
	d := parseResolver(string(raw))
	if len(d.Nameservers) > 0 {
		return d, nil
	}
	if raw, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
		return parseResolver(string(raw)), nil
	}
	return d, nil
}

// merge adds to what there is, each thing once. An option replaces one of the same name.
func merge(have, more host.DNS) host.DNS {
	add := func(list, more []string) []string {
		for _, s := range more {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
		return list
	}
	have.Nameservers, have.Searches = add(have.Nameservers, more.Nameservers), add(have.Searches, more.Searches)
	for _, o := range more.Options {
		name, _, _ := strings.Cut(o, ":")
		have.Options = slices.DeleteFunc(have.Options, func(old string) bool {
			before, _, _ := strings.Cut(old, ":")
			return before == name
		})
		have.Options = append(have.Options, o)
	}
	return have
}

// parseResolver reads a resolv.conf. Name servers on the machine's loopback answer no pod.
func parseResolver(text string) host.DNS {
	var d host.DNS
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if ip := net.ParseIP(fields[1]); ip != nil && !ip.IsLoopback() {
				d.Nameservers = append(d.Nameservers, fields[1])
			}
		case "search":
			d.Searches = fields[1:]
		case "options":
			d.Options = append(d.Options, fields[1:]...)
		}
	}
	return d
}
