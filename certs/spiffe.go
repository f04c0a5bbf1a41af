package certs

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// TagService is the tag whose values become SPIFFE IDs.
const TagService = "kuma.io/service"

// SPIFFEID is the identity of a service in a mesh: spiffe://{TrustDomain}/{Path}.
type SPIFFEID struct {
	// TrustDomain is the mesh.
	TrustDomain string
	// Path is the service, without a leading slash; empty for the mesh itself, whose authority carries it.
	Path string
}

// String renders the ID as a URI.
func (id SPIFFEID) String() string {
	if id.Path == "" {
		return "spiffe://" + id.TrustDomain
	}
	return "spiffe://" + id.TrustDomain + "/" + id.Path
}

// ParseSPIFFEID reads a SPIFFE ID strictly, so that two spellings never mean one identity: no port, user, query, fragment,
// percent encoding, empty or dot segment, only letters, digits, '.', '-' and '_'.
func ParseSPIFFEID(uri string) (SPIFFEID, error) {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return SPIFFEID{}, fmt.Errorf("read SPIFFE ID %q: it does not start with spiffe://", uri)
	}
	if len(uri) > 2048 {
		return SPIFFEID{}, fmt.Errorf("read SPIFFE ID: %d bytes are more than 2048", len(uri))
	}
	domain, path, slash := strings.Cut(rest, "/")
	if err := checkSegment(domain); err != nil {
		return SPIFFEID{}, fmt.Errorf("read SPIFFE ID %q: trust domain %w", uri, err)
	}
	if slash {
		for segment := range strings.SplitSeq(path, "/") {
			if err := checkSegment(segment); err != nil {
				return SPIFFEID{}, fmt.Errorf("read SPIFFE ID %q: path segment %w", uri, err)
			}
		}
	}
	return SPIFFEID{TrustDomain: domain, Path: path}, nil
}

func checkSegment(s string) error {
	switch s {
	case "":
		return errors.New("is empty")
	case ".", "..":
		return fmt.Errorf("is %q", s)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return fmt.Errorf("%q holds %q", s, c)
		}
	}
	return nil
}

// WorkloadURIs returns the names of a workload's certificate in the order of contract controlplane.md §3.4:
// spiffe://{mesh}/{service} for every value of kuma.io/service, then kuma://{tag}/{value} for every tag, both sorted.
// A mesh or service that is no valid part of a SPIFFE ID is an error, and so is a workload without any service.
func WorkloadURIs(mesh string, tags map[string][]string) ([]*url.URL, error) {
	if err := checkSegment(mesh); err != nil {
		return nil, fmt.Errorf("name workload: mesh %w", err)
	}
	var out []*url.URL
	for _, service := range sortedSet(tags[TagService]) {
		text := SPIFFEID{mesh, service}.String()
		if _, err := ParseSPIFFEID(text); err != nil || service == "" {
			return nil, fmt.Errorf("name workload: mesh %q and service %q make no SPIFFE ID", mesh, service)
		}
		out = append(out, &url.URL{Scheme: "spiffe", Host: mesh, Path: "/" + service})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("name workload: it has no tag %s", TagService)
	}
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		for _, value := range sortedSet(tags[tag]) {
			text := "kuma://" + tag + "/" + url.PathEscape(value)
			uri, err := url.Parse(text)
			if err != nil || uri.Host == "" || uri.Port() != "" || uri.User != nil || strings.ContainsAny(text, "?#") || uri.String() != text {
				return nil, fmt.Errorf("name workload: tag %q with value %q makes no URI", tag, value)
			}
			out = append(out, uri)
		}
	}
	return out, nil
}

func sortedSet(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}
