package api

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/token"
)

// authenticate finds out who asks: this host, a client certificate, a token, nobody, in this order.
func (s *Server) authenticate(r *http.Request) (token.User, error) {
	if s.cfg.LocalhostIsAdmin && fromThisHost(r) {
		return admin(), nil
	}
	if s.cfg.AuthnType == AuthnAdminClientCerts {
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && !crossOrigin(r) {
			return admin(), nil
		}
		return anonymous(), nil
	}
	given := r.Header.Get("Authorization")
	if given == "" {
		return anonymous(), nil
	}
	raw, ok := cutBearer(given)
	if !ok {
		return token.User{}, unauthenticated(nil)
	}
	u, err := s.cfg.Validator.User(raw)
	if err != nil {
		return token.User{}, unauthenticated(err)
	}
	if !slices.Contains(u.Groups, AuthenticatedGroup) {
		u.Groups = append(slices.Clone(u.Groups), AuthenticatedGroup)
	}
	return *u, nil
}

func unauthenticated(cause error) error {
	return &Error{Status: http.StatusUnauthorized, Title: "Invalid authentication data", Detail: "Unauthenticated", Cause: cause}
}

func cutBearer(header string) (string, bool) {
	scheme, raw, ok := strings.Cut(header, " ")
	return strings.TrimSpace(raw), ok && strings.EqualFold(scheme, "Bearer")
}

// proxyHeaders are set by proxies, behind which a loopback peer is not who asks.
var proxyHeaders = []string{"Forwarded", "Via", "X-Real-Ip", "Cf-Connecting-Ip", "True-Client-Ip"}

// fromThisHost tells whether a process of this host asks on its own behalf. The peer's address alone does not say so:
// a proxy on this host forwards others, and a web page in a browser on this host may send requests here, under its own
// origin or, after DNS rebinding, under a Host of its own (demands §3.3, assertion 30).
func fromThisHost(r *http.Request) bool {
	if !loopback(r.RemoteAddr) || !loopback(r.Host) || crossOrigin(r) {
		return false
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded") || slices.Contains(proxyHeaders, name) {
			return false
		}
	}
	return true
}

// loopback tells whether "host", "host:port" or "[v6]:port" is this host.
func loopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// crossOrigin tells whether a browser says that another site's page is asking.
func crossOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return false
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	u, err := url.Parse(origins[0])
	return len(origins) > 1 || err != nil || u.Scheme != scheme || !strings.EqualFold(u.Host, r.Host)
}

// cors adds the headers for origins that are allowed, and answers preflights. It reports whether the request is done.
// An allowed page may read answers, but is not the administrator for that: it needs a token.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) (done bool) {
	if len(s.origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !s.originAllowed(origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, PUT, POST, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	w.WriteHeader(http.StatusOK)
	return true
}

func (s *Server) originAllowed(origin string) bool {
	for _, re := range s.origins {
		if re.MatchString(origin) {
			return true
		}
	}
	return false
}
