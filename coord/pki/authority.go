package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skerry-dev/skerry/fleet"
)

const (
	// Skew is how far two clocks of a fleet may be apart.
	Skew = 5 * time.Minute

	nodeLife      = 365 * 24 * time.Hour
	authorityLife = 20 * 365 * 24 * time.Hour
	// longestName is what a certificate's common name has room for, and a host's name as well.
	longestName = 63

	// ServerHost is a host's name that is in every server's certificate and in no other, for programs that tell peers apart by
	// such names alone: etcd does (AllowedHostnames). No node can be called that.
	ServerHost = "_server.skerry"

	serverUnit = "server" // the organizational unit of who may vote and sign
	uriScheme  = "skerry"
	uriHost    = "node"
)

// The kinds of PEM blocks that are written and read here.
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
	requestBlock     = "CERTIFICATE REQUEST"
)

// Authority signs the certificates of a fleet. Every server has it, so that any of them can let machines in.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes the authority of a new fleet.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "skerry fleet"},
		NotBefore: now.Add(-Skew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &Authority{certificate, key}, err
}

// Certificate is the authority's own, in PEM.
func (a *Authority) Certificate() []byte { return encode(certificateBlock, a.certificate.Raw) }

// Fingerprint is what tokens pin.
func (a *Authority) Fingerprint() Fingerprint { return sha256.Sum256(a.certificate.Raw) }

// Key is the authority's private key, in PEM: for the disk of a server, and for the next server to join.
func (a *Authority) Key() ([]byte, error) { return encodeKey(a.key) }

// Sign makes a node's certificate, in PEM, for the key of a request (PEM). Of the request only the key and the name count, and
// the name must be that of the node: what else a certificate says is the signer's to say.
func (a *Authority) Sign(request []byte, name fleet.NodeName, addresses []netip.Addr, server bool, now time.Time) ([]byte, error) {
	csr, err := ParseRequest(request, name)
	if err != nil {
		return nil, err
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1).To4()}
	for _, address := range addresses {
		if ip := net.IP(address.Unmap().AsSlice()); !slices.ContainsFunc(ips, ip.Equal) {
			ips = append(ips, ip)
		}
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: string(name)},
		NotBefore: now.Add(-Skew), NotAfter: now.Add(nodeLife),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		// Every node asks and answers.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{string(name)}, IPAddresses: ips, URIs: []*url.URL{nodeURI(name)},
	}
	if server {
		template.Subject.OrganizationalUnit = []string{serverUnit}
		template.DNSNames = append(template.DNSNames, ServerHost)
	}
	if template.NotAfter.After(a.certificate.NotAfter) { // none outlives its authority
		template.NotAfter = a.certificate.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, csr.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return encode(certificateBlock, der), nil
}

// ParseRequest reads a request to sign (PEM) and looks that whoever made it has the key and asks for that name.
func ParseRequest(request []byte, name fleet.NodeName) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(request)
	if block == nil || block.Type != requestBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("the certificate request is not in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate request cannot be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed with its own key: %w", err)
	}
	if key, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the certificate request is not for an ECDSA key on P-256")
	}
	if csr.Subject.CommonName != string(name) {
		return nil, fmt.Errorf("the certificate request is for %q and not for %q: a node asks for its own name only", csr.Subject.CommonName, name)
	}
	return csr, nil
}

// CheckName says what is wrong with a node's name, if anything.
func CheckName(name fleet.NodeName) error {
	if len(name) > longestName {
		return fmt.Errorf("the node name %.20s… is longer than %d characters", name, longestName)
	}
	if faults := validation.IsDNS1123Subdomain(string(name)); len(faults) > 0 {
		return fmt.Errorf("%q is no name for a node: %s", name, faults[0])
	}
	return nil
}

func nodeURI(name fleet.NodeName) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: uriHost, Path: "/" + string(name)}
}

// nodeOf reads from a certificate whose it is. That it is signed is for the caller to know.
func nodeOf(c *x509.Certificate) (name fleet.NodeName, server bool, err error) {
	name = fleet.NodeName(c.Subject.CommonName)
	if c.IsCA || CheckName(name) != nil || len(c.URIs) != 1 || c.URIs[0].String() != nodeURI(name).String() {
		return "", false, errors.New("the certificate is not that of a node")
	}
	return name, slices.Contains(c.Subject.OrganizationalUnit, serverUnit), nil
}

func serial() *big.Int {
	raw := make([]byte, 16)
	rand.Read(raw)
	raw[0] &= 0x7f // positive in the encoding
	return new(big.Int).SetBytes(raw)
}

// parseAuthority reads an authority from its files.
func parseAuthority(certificate, key []byte) (*Authority, error) {
	c, err := parseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", authorityFile, err)
	}
	k, err := parseKey(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", authorityKeyFile, err)
	}
	if !k.PublicKey.Equal(c.PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together", authorityFile, authorityKeyFile)
	}
	return &Authority{c, k}, nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != certificateBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("is not one certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// parseKey reads a private key. The error quotes nothing of it.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, errors.New("is not a private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("is not a private key that can be read")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("is not an ECDSA key")
	}
	return key, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encode(keyBlock, der), nil
}
