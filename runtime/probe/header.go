package probe

import (
	"cmp"
	"fmt"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// complete is what a request's header says besides its first line: which host it is for, if that was given, and the
// headers as given, behind those that are sent unless one of that name is given. What speaks of a body is left out, for
// there is none, and so are User-Agent and Accept if they are given and empty.
func complete(given []corev1.HTTPHeader, agent string) (host string, all []corev1.HTTPHeader, err error) {
	for _, usual := range [...]corev1.HTTPHeader{
		{Name: "User-Agent", Value: agent}, {Name: "Accept", Value: "*/*"}, {Name: "Connection", Value: "close"},
	} {
		if !slices.ContainsFunc(given, func(h corev1.HTTPHeader) bool { return strings.EqualFold(h.Name, usual.Name) }) {
			all = append(all, usual)
		}
	}
	for _, h := range given {
		if !sendable(h) {
			return "", nil, fmt.Errorf("header %q is none that can be sent", h.Name)
		}
		switch textproto.CanonicalMIMEHeaderKey(h.Name) {
		case "Host":
			host = cmp.Or(host, h.Value)
			continue
		case "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		case "User-Agent", "Accept":
			if h.Value == "" {
				continue
			}
		}
		all = append(all, h)
	}
	return host, all, nil
}

// sendable says whether a header is one, and does not end before its end.
func sendable(h corev1.HTTPHeader) bool {
	noName := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }
	noValue := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	return h.Name != "" && !strings.ContainsFunc(h.Name, noName) && !strings.ContainsFunc(h.Value, noValue)
}

// request appends a request to b. It is for u's host if no other is given.
func request(b []byte, u *url.URL, host string, headers []corev1.HTTPHeader) []byte {
	b = append(b, "GET "...)
	b = append(b, u.RequestURI()...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, cmp.Or(host, u.Host)...)
	b = append(b, "\r\n"...)
	for _, h := range headers {
		b = append(b, h.Name...)
		b = append(b, ": "...)
		b = append(b, h.Value...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}
