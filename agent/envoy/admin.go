package envoy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// adminTimeout bounds one call to the admin endpoint, which is on this host and answers at once or not at all.
const adminTimeout = 5 * time.Second

// adminBody bounds what is read of an answer.
const adminBody = 4096

// adminClient calls Envoy's admin endpoint.
type adminClient struct{ http http.Client }

// newAdminClient takes an address that parseAdmin accepts.
func newAdminClient(admin string) *adminClient {
	network, addr, _ := parseAdmin(admin)
	var d net.Dialer
	return &adminClient{http.Client{
		Timeout: adminTimeout,
		// A redirect would leave Envoy, which sends none.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true, // calls are rare, and an idle connection would count as one that has to drain
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return d.DialContext(ctx, network, addr)
			},
		},
	}}
}

// call returns the status and the trimmed body.
func (a *adminClient) call(ctx context.Context, method, path string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, http.NoBody)
	if err != nil {
		return 0, "", fmt.Errorf("call envoy admin: %w", err)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("call envoy admin: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, adminBody))
	if err != nil {
		return 0, "", fmt.Errorf("call envoy admin %s: %w", path, err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body)), nil
}

// post makes a call that has to succeed.
func (a *adminClient) post(ctx context.Context, path string) error {
	status, body, err := a.call(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("call envoy admin %s: status %d: %s", path, status, body)
	}
	return nil
}

// warmingStat is the gauge of clusters that Envoy was given and does not use yet.
const warmingStat = "cluster_manager.warming_clusters"

// WarmingClusters is how many clusters Envoy was given and does not use yet, for want of endpoints, of a first health check
// or of an address for a name.
func (p *Process) WarmingClusters(ctx context.Context) (int, error) {
	status, body, err := p.admin.call(ctx, http.MethodGet, "/stats?filter=^"+warmingStat+"$")
	if err != nil {
		return 0, err
	}
	value, found := strings.CutPrefix(body, warmingStat+":")
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if status != http.StatusOK || !found || err != nil {
		return 0, fmt.Errorf("ask envoy for warming clusters: status %d: %.100s", status, body)
	}
	return n, nil
}
