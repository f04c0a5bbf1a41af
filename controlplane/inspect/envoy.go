package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/resource"
)

// maxAnswer bounds what an Envoy may answer, in bytes: a proxy with ten thousand services stays below it, and one that
// never stops does not occupy us for ever.
const maxAnswer = 256 << 20

const titleAdmin = "Could not execute admin operation"

// envoyClient asks the admin interfaces of Envoys.
type envoyClient struct {
	http    *http.Client
	timeout time.Duration
}

func newEnvoyClient(cfg *Config) (*envoyClient, error) {
	tlsConfig, err := cfg.Admin.Client()
	if err != nil {
		return nil, err
	}
	return &envoyClient{timeout: cfg.Timeout, http: &http.Client{
		Transport: &http.Transport{
			// No proxy of the environment, and no connection that outlives its question.
			DialContext:     (&net.Dialer{Timeout: cfg.ConnectTimeout}).DialContext,
			TLSClientConfig: tlsConfig, TLSHandshakeTimeout: cfg.ConnectTimeout, DisableKeepAlives: true,
			ResponseHeaderTimeout: cfg.Timeout, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ask returns the answer of an Envoy, which the caller must close. path and query are ours, not the user's.
func (c *envoyClient) ask(ctx context.Context, to xds.AdminEndpoint, path, query string) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(to.Address, strconv.FormatUint(uint64(to.Port), 10)), Path: "/" + path, RawQuery: query}
	if to.Secure {
		u.Scheme = "https"
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stalled := time.AfterFunc(c.timeout, func() { cancel(fmt.Errorf("envoy sends nothing for %s", c.timeout)) })
	stop := func() { stalled.Stop(); cancel(nil) }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		stop()
		return nil, err
	}
	// A Dataplane says its address itself: where that is a service of this host, it must not take us for its administrator.
	req.Header.Set("Via", "1.1 kuma-cp")
	resp, err := c.http.Do(req) //nolint:bodyclose // answer.Close does
	if err != nil {
		stop()
		return nil, err
	}
	body := &answer{body: resp.Body, left: maxAnswer, stop: stop, more: func() { stalled.Reset(c.timeout) }}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("envoy answers %s", resp.Status), body.Close())
	}
	return body, nil
}

// answer is the body of an answer, which may neither stall nor go on for ever.
type answer struct {
	body io.ReadCloser
	left int64
	stop func()
	more func()
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	a.more()
	if a.left -= int64(n); a.left < 0 {
		return 0, fmt.Errorf("envoy answers with more than %d bytes", int64(maxAnswer))
	}
	return n, err
}

func (a *answer) Close() error {
	a.stop()
	return a.body.Close()
}

// adminRoutes adds what the Envoys of a kind of proxies answer themselves (contract controlplane.md §2.3).
func (i *Inspector) adminRoutes(r api.Router, proxy string, endpoint func(*http.Request) (xds.AdminEndpoint, error)) {
	for _, e := range []struct {
		path, what, admin string
		list              api.List
		doc               api.Doc
	}{
		{"xds", "config dump", "config_dump", r.Access.ViewConfigDump, api.Doc{
			Summary: "The configuration that Envoy has", Query: []string{"include_eds"}, Response: map[string]any{},
		}},
		{"stats", "stats", "stats", r.Access.ViewStats, api.Doc{Summary: "Envoy's counters", Query: []string{"format:admin"}, Text: true}},
		{"clusters", "clusters", "clusters", r.Access.ViewClusters, api.Doc{Summary: "Envoy's clusters", Query: []string{"format:admin"}, Text: true}},
	} {
		e.doc.Tag = tag
		r.Handle(proxy+e.path, allowed(e.list, e.what, i.admin(e.admin, endpoint)), e.doc)
	}
}

// admin passes the question on to the Envoy of a proxy, and its answer back as it comes.
func (i *Inspector) admin(path string, endpoint func(*http.Request) (xds.AdminEndpoint, error)) api.Handler {
	return func(w http.ResponseWriter, req *http.Request) error {
		query, contentType, err := adminQuery(path, req.URL.Query())
		if err != nil {
			return err
		}
		to, err := endpoint(req)
		switch {
		case errors.Is(err, xds.ErrUnknownProxy):
			return api.NotFound(titleGet)
		case err != nil:
			return &api.Error{Status: http.StatusBadRequest, Title: titleAdmin, Detail: err.Error()}
		}
		body, err := i.envoy.ask(req.Context(), to, path, query)
		if err != nil {
			return &api.Error{Status: http.StatusServiceUnavailable, Title: titleAdmin, Detail: "the proxy's Envoy cannot be reached", Cause: err}
		}
		defer body.Close()
		w.Header().Set("Content-Type", contentType)
		if path == "config_dump" {
			err = sanitize(w, body)
		} else {
			_, err = io.Copy(w, body)
		}
		if err != nil {
			// The status is gone already; only a connection that breaks says that the answer is not whole.
			panic(http.ErrAbortHandler)
		}
		return nil
	}
}

// adminQuery translates a query; nothing that a user writes reaches Envoy.
func adminQuery(path string, given url.Values) (query, contentType string, err error) {
	if path == "config_dump" {
		if given.Get("include_eds") == "true" {
			query = "include_eds"
		}
		return query, "application/json", nil
	}
	switch given.Get("format") {
	case "", "text":
		return "", "text/plain; charset=utf-8", nil
	case "json":
		return "format=json", "application/json", nil
	}
	return "", "", api.Invalid(titleAdmin, "Invalid format", resource.Violation{Field: "format", Reason: `must be one of ["text", "json"]`})
}
