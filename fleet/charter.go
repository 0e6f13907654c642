package fleet

import (
	"net/netip"
	"time"
)

// Charter is what all nodes of a fleet go by: it is set once, and not in each node's configuration.
type Charter struct {
	Sources []SourceTerms `json:"sources,omitempty"` // in the order of their names
	Network NetworkTerms  `json:"network,omitzero"`
	// PodSecurity is the level that pods are held to where their namespace's label says nothing: nodes that differed in it would read
	// one commit differently. Empty: each node goes by its own configuration.
	PodSecurity string `json:"podSecurity,omitempty"`
	// Pools are what Services of type LoadBalancer get their addresses of, Virtual the fleet's own addresses: one node has each of them at
	// a time. Fast has them move faster (Electorate).
	Pools   []AddressPool `json:"pools,omitempty"`
	Virtual []netip.Addr  `json:"virtual,omitempty"`
	Fast    bool          `json:"fast,omitempty"`
}

// SourceTerms say what a source is. How a node may read it (passwords and keys) stays on the node.
type SourceTerms struct {
	Name       SourceName    `json:"name"`
	URL        string        `json:"url"` // without credentials
	Branch     string        `json:"branch,omitempty"`
	Path       string        `json:"path,omitempty"`
	Interval   time.Duration `json:"interval"`
	OnFailure  string        `json:"onFailure,omitempty"`
	AllowEmpty bool          `json:"allowEmpty,omitempty"`
}

// NetworkTerms are the networks that all nodes have to know alike, as the configuration writes them.
type NetworkTerms struct {
	PodCIDR       string `json:"podCIDR,omitempty"`
	ServiceCIDR   string `json:"serviceCIDR,omitempty"`
	Domain        string `json:"domain,omitempty"`
	PodNetwork    string `json:"podNetwork,omitempty"`
	VXLANPort     uint16 `json:"vxlanPort,omitempty"`
	WireGuardPort uint16 `json:"wireguardPort,omitempty"`
}
