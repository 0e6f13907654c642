package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/api/join"
	"github.com/skerry-dev/skerry/coord/etcd"
	"github.com/skerry-dev/skerry/coord/local"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

func nodeCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Make a fleet, join one, and look after its nodes"}
	cmd.AddCommand(nodeInitCommand(o), nodeTokenCommand(o), nodeJoinCommand(o), nodeListCommand(o), nodeLeaveCommand(o), nodeRemoveCommand(o),
		nodeCharterCommand(o), nodeBackupCommand(o), nodeRestoreCommand(o))
	return cmd
}

func nodeInitCommand(o *options) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use: "init", Short: "Make a fleet, of which this machine is the first server", Args: cobra.NoArgs,
		Long: `Make a fleet, of which this machine is the first server: its certificate authority, and its memory.
The sources in this machine's configuration become the fleet's when its agent starts.`,
		RunE: func(*cobra.Command, []string) error { return o.nodeInit(listen) },
	}
	cmd.Flags().StringVar(&listen, "listen", "", "host:port on which other nodes reach this one; the two ports after it are the store's (default: node.address and port 7443)")
	return cmd
}

// idle makes sure that no agent runs on this machine.
func (c config) idle(ctx context.Context) error {
	_, err := api.NewClient(c.Listen.Socket).Status(ctx)
	if errors.Is(err, api.ErrNoAgent) {
		return nil
	}
	return fmt.Errorf("an agent runs on this machine (%s answers): stop it first, its containers run on; then start it again", c.Listen.Socket)
}

// fleetAddress is where this machine will serve its fleet.
func (c config) fleetAddress(listen string) (string, error) {
	if listen == "" {
		listen = c.Fleet.Listen
	}
	if listen == "" {
		listen = c.Node.Address
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		host, port = listen, strconv.Itoa(defaultFleetPort)
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.IsUnspecified() || a.IsLoopback() {
		return "", fmt.Errorf("%s is no address at which others reach this machine: name one with --listen, or set node.address", host)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65533 {
		return "", fmt.Errorf("%s is no port that has two more after it", port)
	}
	return net.JoinHostPort(host, port), nil
}

// served is a server's membership, as far as it hangs on its address.
func served(listen string) (pki.Membership, error) {
	peer, err := etcdURL(listen, peerPort)
	if err != nil {
		return pki.Membership{}, err
	}
	client, err := etcdURL(listen, clientPort)
	return pki.Membership{Role: pki.RoleServer, Listen: listen, PeerURL: peer, ClientURL: client}, err
}

func (o *options) nodeInit(listen string) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	if err := c.idle(context.Background()); err != nil {
		return err
	}
	if listen, err = c.fleetAddress(listen); err != nil {
		return err
	}
	m, err := served(listen)
	if err != nil {
		return err
	}
	if c.Fleet.external() {
		m.PeerURL, m.ClientURL, m.Endpoints = "", "", c.Fleet.Etcd.Endpoints
	} else {
		m.InitialCluster, m.Endpoints = map[string]string{c.Node.Name: m.PeerURL}, []string{m.ClientURL}
	}
	if err := os.MkdirAll(c.Node.DataDir, 0o700); err != nil {
		return err
	}
	if _, err := pki.Found(c.fleetDir(), fleet.NodeName(c.Node.Name), c.addresses(listen), m, time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(o.out, `The fleet is made, and %[1]s is its first server, at %[2]s.
Start the agent (skerry agent), and then let other machines in:
  on this one:     skerry node token            (with --server for one that keeps a copy of the fleet's memory and votes)
  on another:      skerry node join %[2]s --token TOKEN
One server is a fleet that decides nothing while that is down; three go on when one of them fails.
%[3]s holds the fleet's keys: who has them is the fleet. Keep a copy where nobody else gets at it.
`, c.Node.Name, listen, c.fleetDir())
	return nil
}

// addresses are those that a certificate of this machine is for.
func (c config) addresses(listen string) []netip.Addr {
	return (&membership{config: c, Membership: pki.Membership{Listen: listen}}).addresses()
}

func nodeTokenCommand(o *options) *cobra.Command {
	var server bool
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "token", Short: "Make a token that lets one machine join, once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.load()
			if err != nil {
				return err
			}
			made, err := api.NewClient(c.Listen.Socket).Token(cmd.Context(), server, ttl)
			if err != nil {
				return agentWanted(err)
			}
			flag := ""
			if server {
				flag = " --server"
			}
			fmt.Fprintf(o.err, "Good for one machine until %s. On that machine, run:\n", made.Expires.Local().Format("15:04:05"))
			fmt.Fprintf(o.out, "skerry node join %s%s --token %s\n", made.Address, flag, made.Token)
			return nil
		},
	}
	cmd.Flags().BoolVar(&server, "server", false, "the machine will keep a copy of the fleet's memory, and vote")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it is good for")
	return cmd
}

func nodeJoinCommand(o *options) *cobra.Command {
	var token, listen string
	var server, witness bool
	cmd := &cobra.Command{
		Use: "join HOST[:PORT] --token TOKEN", Short: "Make this machine a node of a fleet", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			role := pki.RoleAgent
			switch {
			case witness:
				role = pki.RoleWitness
			case server:
				role = pki.RoleServer
			}
			return o.nodeJoin(cmd.Context(), args[0], token, listen, role)
		},
	}
	cmd.Flags().StringVar(&token, "token", "", "what skerry node token printed (or SKERRY_TOKEN in the environment)")
	cmd.Flags().StringVar(&listen, "listen", "", "host:port on which other nodes reach this one (default: node.address and port 7443)")
	cmd.Flags().BoolVar(&server, "server", false, "keep a copy of the fleet's memory, and vote; the token must be for that")
	cmd.Flags().BoolVar(&witness, "witness", false, "do that alone: lead nothing, and run nothing; for the third machine of a fleet of two. The token must be for a server")
	cmd.MarkFlagsMutuallyExclusive("server", "witness")
	return cmd
}

func (o *options) nodeJoin(ctx context.Context, host, token, listen, role string) error {
	if token == "" {
		token = os.Getenv("SKERRY_TOKEN")
	}
	if token == "" {
		return errors.New("a token is needed: skerry node token prints one, on a server of the fleet")
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, strconv.Itoa(defaultFleetPort))
	}
	c, err := o.load()
	if err != nil {
		return err
	}
	if err := c.idle(ctx); err != nil {
		return err
	}
	if listen, err = c.fleetAddress(listen); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Node.DataDir, 0o700); err != nil {
		return err
	}
	r := join.Request{Dir: c.fleetDir(), Server: host, Token: token, Node: c.node(), Role: role, Listen: listen}
	if role != pki.RoleAgent {
		m, err := served(listen)
		if err != nil {
			return err
		}
		r.PeerURL, r.ClientURL = m.PeerURL, m.ClientURL
	}
	r.Node = (&membership{config: c, Membership: pki.Membership{Role: r.Role, Listen: listen}}).node(r.Node)
	joined, err := join.Join(ctx, r)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "%s belongs to the fleet now, as %s. Start the agent: skerry agent\n", c.Node.Name, joined.Membership.Role)
	for _, s := range joined.Charter.Sources {
		fmt.Fprintf(o.out, "It runs what %s says (%s).\n", s.URL, s.Name)
		if !slices.ContainsFunc(c.Sources, func(own sourceConfig) bool { return own.Name == string(s.Name) }) {
			fmt.Fprintf(o.out, "If reading that takes a password or a key, name it in this machine's configuration under sources, with name: %s\n", s.Name)
		}
	}
	return nil
}

func nodeListCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "Show the nodes of the fleet", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.load()
			if err != nil {
				return err
			}
			status, err := api.NewClient(c.Listen.Socket).Status(cmd.Context())
			if err != nil {
				return agentWanted(err)
			}
			if status.Fleet == nil {
				return fmt.Errorf("%s belongs to no fleet: make one with skerry node init, or join one with skerry node join", status.Node)
			}
			w := tabwriter.NewWriter(o.out, 0, 8, 2, ' ', 0)
			writeFleet(w, status, true)
			return w.Flush()
		},
	}
}

func nodeRemoveCommand(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "remove NODE", Short: "Take a node out of the fleet that does not answer any more, or was drained", Args: cobra.ExactArgs(1),
		Long: `Take a node out of the fleet. It is not asked. Other agents talk to it no more; its certificate still opens
the store's own port, so shut a machine out of the network that was stolen.
Pods that it had run elsewhere, StatefulSets' too: do not remove a node that may still run them.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.load()
			if err != nil {
				return err
			}
			client, name := api.NewClient(c.Listen.Socket), fleet.NodeName(args[0])
			if err := removable(cmd.Context(), client, name, force); err != nil {
				return err
			}
			if err := client.Remove(cmd.Context(), name); err != nil {
				return agentWanted(err)
			}
			fmt.Fprintf(o.out, "node/%s removed\n", name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "although it answers and has pods")
	return cmd
}

// removable says why a node should not be removed.
func removable(ctx context.Context, client *api.Client, name fleet.NodeName, force bool) error {
	status, err := client.Status(ctx)
	if err != nil {
		return agentWanted(err)
	}
	if status.Fleet == nil || force {
		return nil
	}
	pods := 0
	for _, p := range status.Pods {
		if p.Node == name && p.Owner.Kind != fleet.KindDaemonSet { // draining leaves those where they are
			pods++
		}
	}
	for _, n := range status.Fleet.Nodes {
		if n.Name == name && n.Why == "" && pods > 0 {
			return fmt.Errorf("node %s answers and has %d pods: drain it first (skerry drain %s), or say --force", name, pods, name)
		}
	}
	return nil
}

func nodeLeaveCommand(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "leave", Short: "Take this machine out of its fleet; its agent ends", Args: cobra.NoArgs,
		Long: `Take this machine out of its fleet; its agent ends. With --force, and while no agent runs here, the machine
forgets its fleet without telling it: for one that was removed, or whose fleet is no more. Where the fleet goes on,
remove the node there, too.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.load()
			if err != nil {
				return err
			}
			client := api.NewClient(c.Listen.Socket)
			if _, err := client.Status(cmd.Context()); errors.Is(err, api.ErrNoAgent) {
				if force {
					return o.forget(cmd.Context(), c)
				}
				return fmt.Errorf("%w: start the agent, so that the fleet hears of it; or, where that is no more, or has removed this node: skerry node leave --force", err)
			}
			if err := removable(cmd.Context(), client, fleet.NodeName(c.Node.Name), force); err != nil {
				return err
			}
			if err := client.Leave(cmd.Context()); err != nil {
				return agentWanted(err)
			}
			fmt.Fprintf(o.out, "%s has left the fleet. Its agent ends; skerry agent starts it as a node alone.\n", c.Node.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "although it has pods: they stop being looked after; and although no agent runs")
	return cmd
}

// forget has this machine forget its fleet, which is not told.
func (o *options) forget(ctx context.Context, c config) error {
	if _, err := pki.LoadMembership(c.fleetDir()); errors.Is(err, pki.ErrNone) {
		return fmt.Errorf("%s belongs to no fleet", c.Node.Name)
	}
	own, err := local.Open(filepath.Join(c.Node.DataDir, "skerry.db")) // one process a node has it
	if err != nil {
		return err
	}
	if err := errors.Join(c.forgetFleet(), own.Close()); err != nil {
		return err
	}
	c.leaveNetwork(ctx, slog.New(slog.NewTextHandler(o.err, nil)))
	fmt.Fprintf(o.out, "%[1]s has forgotten its fleet, which was not told: where it goes on, run skerry node remove %[1]s. skerry agent starts a node alone.\n", c.Node.Name)
	return nil
}

func nodeCharterCommand(o *options) *cobra.Command {
	var set bool
	cmd := &cobra.Command{
		Use: "charter", Short: "Show what all nodes go by: sources, networks and pod security", Args: cobra.NoArgs,
		Long: `Show what all nodes of the fleet go by: its sources, its networks, and what pods are held to (podSecurity).
With --set, that is what the configuration of this node says from now on; credentials stay in each node's own
configuration.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.load()
			if err != nil {
				return err
			}
			charter, err := api.NewClient(c.Listen.Socket).Charter(cmd.Context(), set)
			if err != nil {
				return agentWanted(err)
			}
			raw, err := yaml.Marshal(charter)
			if err != nil {
				return err
			}
			_, err = o.out.Write(raw)
			return err
		},
	}
	cmd.Flags().BoolVar(&set, "set", false, "make it what this node's configuration says")
	return cmd
}

func nodeBackupCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Write what the fleet remembers to a file", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.nodeBackup(cmd.Context(), args[0]) },
	}
}

func (o *options) nodeBackup(ctx context.Context, name string) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := api.NewClient(c.Listen.Socket).Backup(ctx, file)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return errors.Join(agentWanted(err), os.Remove(name))
	}
	fmt.Fprintf(o.out, "%s: %d bytes. The keys of the fleet are not in it: they are in %s.\n", name, n, c.fleetDir())
	return nil
}

func nodeRestoreCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "Make this machine the only server again, with what a backup remembers", Args: cobra.ExactArgs(1),
		Long: `Make this machine the only server of its fleet again, with what a backup remembers: for when most servers are
lost for good. The agent must not run. Nodes that are agents find it by themselves; other servers, and nodes that joined after
the backup, have to join anew. What runs is found again from what nodes report: pods of StatefulSets and Jobs wait until every node
that the backup knows has spoken or was removed (skerry node remove).`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.nodeRestore(cmd.Context(), args[0]) },
	}
}

func (o *options) nodeRestore(ctx context.Context, file string) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	if err := c.idle(ctx); err != nil {
		return err
	}
	m, err := pki.LoadMembership(c.fleetDir())
	if err != nil {
		return err
	}
	if m.Role != pki.RoleServer {
		return fmt.Errorf("this node is no server of its fleet: restore on one that is")
	}
	dir := filepath.Join(c.Node.DataDir, "etcd")
	aside := dir + ".before-" + time.Now().UTC().Format("20060102-150405")
	if err := os.Rename(dir, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := etcd.Restore(ctx, file, dir, c.Node.Name, m.PeerURL, time.Now()); err != nil {
		return errors.Join(err, os.RemoveAll(dir), os.Rename(aside, dir))
	}
	m.InitialCluster, m.Existing = map[string]string{c.Node.Name: m.PeerURL}, false
	if err := m.Save(c.fleetDir()); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "Restored. What was there before is in %s. Start the agent: skerry agent\n", aside)
	return nil
}
