package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/viper"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/hostnet"
	"github.com/skerry-dev/skerry/sources/git"
	"github.com/skerry-dev/skerry/sources/manifest"
	"github.com/skerry-dev/skerry/sources/podsecurity"
)

// defaultConfigFile is read when no other is named and it is there.
const defaultConfigFile = "/etc/skerry/config.yaml"

// config is a node's configuration: the file, over it the environment (SKERRY_NODE_NAME for node.name), over
// that flags.
type config struct {
	Node    nodeConfig     `mapstructure:"node"`
	Podman  podmanConfig   `mapstructure:"podman"`
	Listen  listenConfig   `mapstructure:"listen"`
	Sources []sourceConfig `mapstructure:"sources"`
	Policy  policyConfig   `mapstructure:"policy"`
	Network networkConfig  `mapstructure:"network"`
	Fleet   fleetConfig    `mapstructure:"fleet"`

	file string // where it was read; empty: defaults
}

type nodeConfig struct {
	Name    string            `mapstructure:"name"`
	Labels  map[string]string `mapstructure:"labels"`
	Address string            `mapstructure:"address"`
	DataDir string            `mapstructure:"dataDir"`
	Taints  []taintConfig     `mapstructure:"taints"`
	// DrainOnShutdown: the agent of a node of a fleet has its pods go elsewhere before it ends.
	DrainOnShutdown bool `mapstructure:"drainOnShutdown"`

	moves bool // Address was looked for, and another is followed
}

type taintConfig struct {
	Key    string `mapstructure:"key"`
	Value  string `mapstructure:"value"`
	Effect string `mapstructure:"effect"`
}

// fleetConfig is of a node that belongs to a fleet. What joining has settled is in its data folder.
type fleetConfig struct {
	Role         string        `mapstructure:"role"`
	Listen       string        `mapstructure:"listen"`
	ReplaceAfter time.Duration `mapstructure:"replaceAfter"`
	VirtualIPs   []string      `mapstructure:"virtualIPs"`
	Failover     string        `mapstructure:"failover"`
	Etcd         etcdConfig    `mapstructure:"etcd"`
}

// How fast addresses move to another node: within half a second of the loss of the one that had it, or a third.
const (
	failoverUsual = "usual"
	failoverFast  = "fast"
)

// etcdConfig is an etcd that somebody else runs, in place of one in the servers' agents.
type etcdConfig struct {
	Endpoints []string `mapstructure:"endpoints"`
	CAFile    string   `mapstructure:"caFile"`
	CertFile  string   `mapstructure:"certFile"`
	KeyFile   string   `mapstructure:"keyFile"`
}

// external reports whether the fleet's memory is somebody else's etcd.
func (f fleetConfig) external() bool { return len(f.Etcd.Endpoints) > 0 }

type podmanConfig struct {
	Socket string `mapstructure:"socket"`
}

type listenConfig struct {
	Socket  string `mapstructure:"socket"`
	Address string `mapstructure:"address"`
}

type policyConfig struct {
	PodSecurity string `mapstructure:"podSecurity"`
}

type networkConfig struct {
	Services          string       `mapstructure:"services"`
	PodNetwork        string       `mapstructure:"podNetwork"`
	VXLANPort         uint16       `mapstructure:"vxlanPort"`
	WireGuardPort     uint16       `mapstructure:"wireguardPort"`
	PodCIDR           string       `mapstructure:"podCIDR"`
	ServiceCIDR       string       `mapstructure:"serviceCIDR"`
	Domain            string       `mapstructure:"domain"`
	LoadBalancerPools []poolConfig `mapstructure:"loadBalancerPools"`
}

type poolConfig struct {
	Name       string   `mapstructure:"name"`
	CIDRs      []string `mapstructure:"cidrs"`
	Namespaces []string `mapstructure:"namespaces"`
}

type sourceConfig struct {
	Name       string        `mapstructure:"name"`
	URL        string        `mapstructure:"url"`
	Branch     string        `mapstructure:"branch"`
	Path       string        `mapstructure:"path"`
	Interval   time.Duration `mapstructure:"interval"`
	OnFailure  string        `mapstructure:"onFailure"`
	AllowEmpty bool          `mapstructure:"allowEmpty"`

	Username             string `mapstructure:"username"`
	PasswordFile         string `mapstructure:"passwordFile"`
	TokenFile            string `mapstructure:"tokenFile"`
	SSHKeyFile           string `mapstructure:"sshKeyFile"`
	SSHKeyPassphraseFile string `mapstructure:"sshKeyPassphraseFile"`
	KnownHostsFile       string `mapstructure:"knownHostsFile"`
	CAFile               string `mapstructure:"caFile"`
}

// The ports of VXLAN and WireGuard, as firewalls know them.
const (
	defaultVXLANPort     uint16 = 4789
	defaultWireGuardPort uint16 = 51820
)

// defaultInterval is how often a source is looked at.
const defaultInterval = 15 * time.Second

// settings are the keys that the environment can set, with their defaults.
func settings() map[string]string {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	return map[string]string{
		"node.name": strings.ToLower(name), "node.address": "", "node.dataDir": "/var/lib/skerry",
		"podman.socket": "unix:///run/podman/podman.sock",
		"listen.socket": "/run/skerry/skerry.sock", "listen.address": "", "policy.podSecurity": "",
		"network.services": "auto", "network.podNetwork": string(fleet.PodsAuto), "network.vxlanPort": strconv.Itoa(int(defaultVXLANPort)), "network.wireguardPort": strconv.Itoa(int(defaultWireGuardPort)),
		"network.podCIDR": "10.42.0.0/16", "network.serviceCIDR": "10.43.0.0/16",
		"network.domain": "cluster.local",
	}
}

// load reads the configuration. All faults are returned, joined.
func (o *options) load() (config, error) {
	v := viper.NewWithOptions(viper.ExperimentalBindStruct())
	v.SetConfigType("yaml")
	v.SetEnvPrefix("skerry")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	for key, value := range settings() {
		v.SetDefault(key, value)
	}
	var c config
	c.file = o.configFile
	if c.file == "" {
		if _, err := os.Stat(defaultConfigFile); err == nil {
			c.file = defaultConfigFile
		} else if !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	if c.file != "" {
		v.SetConfigFile(c.file)
		if err := v.ReadInConfig(); err != nil {
			return c, fmt.Errorf("read configuration %s: %w", c.file, err)
		}
	}
	if err := v.UnmarshalExact(&c); err != nil {
		return c, fmt.Errorf("configuration %s: %w", c.from(), err)
	}
	if err := c.readLabels(); err != nil {
		return c, fmt.Errorf("configuration %s: %w", c.from(), err)
	}
	if c.Node.Address == "" {
		c.Node.Address, c.Node.moves = defaultAddress(), true
	}
	if o.socket != "" {
		c.Listen.Socket = o.socket
	}
	for i := range c.Sources {
		if c.Sources[i].Interval == 0 {
			c.Sources[i].Interval = defaultInterval
		}
		c.Sources[i].Path = path.Clean(c.Sources[i].Path)
	}
	if err := c.validate(); err != nil {
		return c, fmt.Errorf("configuration %s:\n%w", c.from(), err)
	}
	return c, nil
}

// from says where the configuration comes from.
func (c config) from() string {
	if c.file == "" {
		return "from defaults and the environment (there is no " + defaultConfigFile + ")"
	}
	return c.file
}

// readLabels reads the labels again: viper takes all keys for settings, and makes them lower-case.
func (c *config) readLabels() error {
	if c.file == "" {
		return nil
	}
	raw, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	var written struct {
		Node struct {
			Labels map[string]string `json:"labels"`
		} `json:"node"`
	}
	if err := yaml.Unmarshal(raw, &written); err != nil {
		return err
	}
	c.Node.Labels = written.Node.Labels
	return nil
}

// validate returns all faults, joined.
func (c config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("  "+format, args...)) }
	for _, text := range validation.IsDNS1123Subdomain(c.Node.Name) {
		fault("node.name %q: %s", c.Node.Name, text)
	}
	if _, err := netip.ParseAddr(c.Node.Address); err != nil {
		fault("node.address %q is no IP address", c.Node.Address)
	}
	for key, dir := range map[string]string{"node.dataDir": c.Node.DataDir, "listen.socket": c.Listen.Socket} {
		if !filepath.IsAbs(dir) {
			fault("%s %q is no absolute path", key, dir)
		}
	}
	if !strings.HasPrefix(c.Podman.Socket, "unix:///") {
		fault("podman.socket %q is not of the form unix:///path", c.Podman.Socket)
	}
	if c.Listen.Address != "" {
		if _, _, err := net.SplitHostPort(c.Listen.Address); err != nil {
			fault("listen.address %q is not host:port", c.Listen.Address)
		}
	}
	if _, err := podsecurity.ParseLevel(string(c.policy().PodSecurity)); err != nil {
		fault("policy.podSecurity %q %w", c.Policy.PodSecurity, err)
	}
	if !slices.Contains([]string{"", "auto", "on", "off"}, c.Network.Services) {
		fault("network.services %q: auto, on or off is wanted", c.Network.Services)
	}
	switch way := fleet.PodNetwork(c.Network.PodNetwork); way {
	case "", fleet.PodsAuto, fleet.PodsApart:
	case fleet.PodsRouted, fleet.PodsVXLAN, fleet.PodsWireGuard:
		if c.Network.Services == servicesOff {
			fault("network.podNetwork %s: with network.services off pods have no addresses that others could reach", way)
		}
	default:
		fault("network.podNetwork %q: auto, none, host-gw, vxlan or wireguard is wanted", way)
	}
	if c.Network.VXLANPort == 0 {
		fault("network.vxlanPort 0 is no port")
	}
	if c.Network.WireGuardPort == 0 {
		fault("network.wireguardPort 0 is no port")
	}
	for key, cidr := range map[string]string{"network.podCIDR": c.Network.PodCIDR, "network.serviceCIDR": c.Network.ServiceCIDR} {
		p, err := netip.ParsePrefix(cidr)
		if err != nil || !p.Addr().Is4() || p.Bits() > nodeBits || p.Masked() != p {
			fault("%s %q is no range of IPv4 addresses such as 10.42.0.0/16, of %d bits at most", key, cidr, nodeBits)
		}
	}
	if !slices.Contains([]string{"", pki.RoleServer, pki.RoleAgent, pki.RoleWitness}, c.Fleet.Role) {
		fault("fleet.role %q: server, agent or witness is wanted", c.Fleet.Role)
	}
	if c.Fleet.ReplaceAfter != 0 && c.Fleet.ReplaceAfter < sessionTTL+time.Second {
		fault("fleet.replaceAfter %s: a node is not known to be lost before %s", c.Fleet.ReplaceAfter, sessionTTL)
	}
	if !slices.Contains([]string{"", failoverUsual, failoverFast}, c.Fleet.Failover) {
		fault("fleet.failover %q: %s or %s is wanted", c.Fleet.Failover, failoverUsual, failoverFast)
	}
	for i, text := range c.Fleet.VirtualIPs {
		if a, err := netip.ParseAddr(text); err != nil || a.Zone() != "" {
			fault("fleet.virtualIPs[%d] %q is no address", i, text)
		}
	}
	for i, t := range c.Node.Taints {
		at := fmt.Sprintf("node.taints[%d]", i)
		for _, text := range validation.IsQualifiedName(t.Key) {
			fault("%s.key %q: %s", at, t.Key, text)
		}
		for _, text := range validation.IsValidLabelValue(t.Value) {
			fault("%s.value %q: %s", at, t.Value, text)
		}
		if !slices.Contains([]string{string(corev1.TaintEffectNoSchedule), string(corev1.TaintEffectPreferNoSchedule), string(corev1.TaintEffectNoExecute)}, t.Effect) {
			fault("%s.effect %q: NoSchedule, PreferNoSchedule or NoExecute is wanted", at, t.Effect)
		}
	}
	for i, endpoint := range c.Fleet.Etcd.Endpoints {
		if u, err := url.Parse(endpoint); err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) {
			fault("fleet.etcd.endpoints[%d] %q: https://host:port is wanted", i, endpoint)
		}
	}
	if e := c.Fleet.Etcd; (e.CertFile == "") != (e.KeyFile == "") {
		fault("fleet.etcd: certFile and keyFile go together")
	}
	pools := map[string]bool{}
	for i, p := range c.Network.LoadBalancerPools {
		at := fmt.Sprintf("network.loadBalancerPools[%d]", i)
		if p.Name == "" || pools[p.Name] {
			fault("%s.name %q: each pool has a name of its own", at, p.Name)
		}
		pools[p.Name] = true
		if len(p.CIDRs) == 0 {
			fault("%s.cidrs is empty: which addresses are in it?", at)
		}
		for _, cidr := range p.CIDRs {
			if r, err := netip.ParsePrefix(cidr); err != nil || !r.Addr().Is4() || r.Masked() != r {
				fault("%s.cidrs %q is no range of IPv4 addresses such as 192.168.1.240/28, or 192.168.1.9/32 for a single one", at, cidr)
			}
		}
	}
	if messages := validation.IsDNS1123Subdomain(c.Network.Domain); len(messages) > 0 {
		fault("network.domain %q: %s", c.Network.Domain, messages[0])
	}
	names := map[string]bool{}
	for i, s := range c.Sources {
		at := fmt.Sprintf("sources[%d]", i)
		if s.Name == "" || len(validation.IsDNS1123Label(s.Name)) > 0 {
			fault("%s.name %q: lower-case letters, digits and dashes are wanted", at, s.Name)
		}
		if names[s.Name] {
			fault("%s.name %q is given twice", at, s.Name)
		}
		names[s.Name] = true
		if s.Interval < time.Second {
			fault("%s.interval %s is shorter than a second", at, s.Interval)
		}
		if s.OnFailure != "" && s.OnFailure != fleet.OnFailureHold && s.OnFailure != fleet.OnFailureRollback {
			fault("%s.onFailure %q: must be hold or rollback", at, s.OnFailure)
		}
		if s.PasswordFile != "" && s.TokenFile != "" {
			fault("%s: passwordFile and tokenFile are both given: one is enough", at)
		}
		if s.PasswordFile != "" && s.Username == "" {
			fault("%s: passwordFile needs a username", at)
		}
		if err := s.git("", "", "").Validate(); err != nil {
			fault("%s: %w", at, err)
		}
	}
	return errors.Join(faults...)
}

// git is the source for the package that reads it, with the secrets given.
func (s sourceConfig) git(dir, password, token string) git.Config {
	return git.Config{
		Name: fleet.SourceName(s.Name), URL: s.URL, Branch: s.Branch, Path: s.Path, Dir: cmpOr(dir, "/nowhere"),
		Username: s.Username, Password: password, Token: token, CAFile: s.CAFile,
		SSHKeyFile: s.SSHKeyFile, KnownHostsFile: s.KnownHostsFile,
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// open opens a source with its clone below dir.
func (s sourceConfig) open(dir string) (*git.Source, error) {
	var faults []error
	secret := func(file string) string {
		if file == "" {
			return ""
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			faults = append(faults, fmt.Errorf("source %s: %w", s.Name, err))
		}
		return strings.TrimSpace(string(raw))
	}
	cfg := s.git(dir, secret(s.PasswordFile), secret(s.TokenFile))
	cfg.SSHKeyPassphrase = secret(s.SSHKeyPassphraseFile)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return git.Open(cfg)
}

// policy is what pods are held to on this node.
func (c config) policy() manifest.Policy {
	return manifest.Policy{PodSecurity: podsecurity.Level(cmpOr(c.Policy.PodSecurity, string(podsecurity.Privileged)))}
}

// node is this machine for the fleet.
func (c config) node() fleet.Node {
	labels := map[string]string{
		"kubernetes.io/hostname": c.Node.Name, "kubernetes.io/os": "linux", "kubernetes.io/arch": runtime.GOARCH,
	}
	for k, v := range c.Node.Labels {
		labels[k] = v
	}
	var taints []corev1.Taint
	for _, t := range c.Node.Taints {
		taints = append(taints, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	address, uplink := c.whereabouts(c.Node.Address)
	return fleet.Node{
		Taints: taints,
		Name:   fleet.NodeName(c.Node.Name), Labels: labels, Address: address, Uplink: uplink,
		Allocatable: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(installed(), resource.BinarySI),
		},
	}
}

// installed is how much memory the machine has, in bytes; 0 where it does not say.
func installed() int64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// defaultAddress is the one from which packets to the outside would leave, the first that is not loopback
// where there is no such route, and loopback where there is nothing else.
func defaultAddress() string {
	if a, ok := outward(); ok {
		return a
	}
	addresses, _ := net.InterfaceAddrs()
	at := slices.IndexFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.IsGlobalUnicast()
	})
	if at < 0 {
		return "127.0.0.1"
	}
	return addresses[at].(*net.IPNet).IP.String()
}

// outward is the address from which packets to the outside would leave.
func outward() (string, bool) {
	var d net.Dialer
	conn, err := d.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return "", false
	}
	defer conn.Close()
	a, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok || !a.IP.IsGlobalUnicast() {
		return "", false
	}
	return a.IP.String(), true
}

// whereabouts is where others reach this machine just now, and by which link; the zero Uplink if no link has that address. Where it
// cannot be found out, it is where it was.
func (c config) whereabouts(was string) (string, fleet.Uplink) {
	address := c.Node.Address
	if c.Node.moves {
		address = was
		if now, ok := outward(); ok {
			address = now
		}
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address, fleet.Uplink{}
	}
	uplink, err := hostnet.Uplink(a)
	if err != nil {
		return address, fleet.Uplink{}
	}
	return address, uplink
}
