package manifest

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What a resolver takes at most.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048 // the blanks between them counted
)

// dns checks how names are looked up in a pod.
func (c *checker) dns(s *corev1.PodSpec, p *field.Path) {
	oneOf(c, p.Child("dnsPolicy"), s.DNSPolicy, corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)
	p = p.Child("dnsConfig")
	if s.DNSPolicy == corev1.DNSNone && (s.DNSConfig == nil || len(s.DNSConfig.Nameservers) == 0) {
		c.bad(p.Child("nameservers"), "is required with the dnsPolicy None")
	}
	if s.DNSConfig == nil {
		return
	}
	if len(s.DNSConfig.Nameservers) > maxNameservers {
		c.bad(p.Child("nameservers"), "must not be more than %d", maxNameservers)
	}
	for i, server := range s.DNSConfig.Nameservers {
		c.ip(server, p.Child("nameservers").Index(i))
	}
	if len(s.DNSConfig.Searches) > maxSearches {
		c.bad(p.Child("searches"), "must not be more than %d", maxSearches)
	}
	if len(strings.Join(s.DNSConfig.Searches, " ")) > maxSearchChars {
		c.bad(p.Child("searches"), "must not have more than %d characters in all", maxSearchChars)
	}
	for i, domain := range s.DNSConfig.Searches {
		if domain != "." {
			c.all(p.Child("searches").Index(i), domain, validation.IsDNS1123SubdomainWithUnderscore(strings.TrimSuffix(domain, ".")))
		}
	}
	for i, option := range s.DNSConfig.Options {
		if option.Name == "" {
			c.bad(p.Child("options").Index(i).Child("name"), "is required")
		}
	}
}

func (c *checker) hostAliases(list []corev1.HostAlias, p *field.Path) {
	for i, alias := range list {
		c.ip(alias.IP, p.Index(i).Child("ip"))
		for j, name := range alias.Hostnames {
			c.all(p.Index(i).Child("hostnames").Index(j), name, validation.IsDNS1123Subdomain(name))
		}
	}
}

func (c *checker) ip(text string, p *field.Path) {
	if addr, err := netip.ParseAddr(text); err != nil || addr.Zone() != "" {
		c.bad(p, "%q is not allowed: must be an IP address", text)
	}
}
