package bootstrap

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Limits of an answer, in bytes. A bootstrap of ours has 8 KiB.
const (
	maxResponse  = 4 << 20
	maxErrorBody = 4 << 10
)

// Errors by which callers tell a user what to do.
var (
	// ErrNotFound: the control plane does not know the proxy yet. It is retried.
	ErrNotFound = errors.New("dataplane entity is not yet found in the control plane; register it, or give its resource to kuma-dp")
	// ErrWrongPort: the URL names the API server, not the data-plane server. It is retried.
	ErrWrongPort = errors.New("the address belongs to the control plane's API server; use its data-plane server, by default port 5678")
	// ErrInvalidRequest: the control plane refused the request; its reason follows. It is not retried.
	ErrInvalidRequest = errors.New("Invalid request") // the text is Kuma's, contract agent.md §2.3
)

// Config says where and how to ask.
type Config struct {
	// URL of the data-plane server, http or https; its path is replaced.
	URL string
	// CACert is the PEM of the only authorities to trust; empty means those of the system.
	CACert []byte
	// SkipVerify accepts any certificate: whoever is on the way can then take the token and give out a configuration.
	SkipVerify bool
	// Backoff between tries and MaxDuration of all of them; 3s and 5m when 0.
	Backoff, MaxDuration time.Duration
	// Timeout of one try; 10s when 0.
	Timeout time.Duration
	// Log gets a warning for each failed try; nil is silent.
	Log *slog.Logger
}

// Fetch asks until there is an answer, an error that trying again cannot mend, MaxDuration or the end of ctx (contract
// agent.md §2.3). Retried: no connection, TLS failures, timeouts, 3xx (never followed: the token is in the body), 5xx,
// a 404 that means "not yet". Final: every other 4xx, and a 200 that is no bootstrap.
func Fetch(ctx context.Context, cfg Config, req Request) (*Response, error) {
	c, err := newClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("fetch bootstrap: %w", err)
	}
	defer c.http.CloseIdleConnections()
	body, err := encode(req)
	if err != nil {
		return nil, fmt.Errorf("fetch bootstrap: %w", err)
	}
	c.secret = req.DataplaneToken
	resp, err := backoff.Retry(ctx,
		func() (*Response, error) { return c.try(ctx, body) },
		backoff.WithBackOff(backoff.NewConstantBackOff(orDefault(cfg.Backoff, 3*time.Second))),
		backoff.WithMaxElapsedTime(orDefault(cfg.MaxDuration, 5*time.Minute)),
		backoff.WithNotify(func(err error, wait time.Duration) {
			c.log.Warn("could not fetch bootstrap, will try again", "error", err, "in", wait)
		}))
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("fetch bootstrap: %w", ctx.Err())
		}
		if p, ok := errors.AsType[*backoff.PermanentError](err); ok {
			err = p.Err
		}
		return nil, fmt.Errorf("fetch bootstrap from %s: %w", c.url.Redacted(), err)
	}
	return resp, nil
}

// encode renders a request as Kuma does: indented by one space, lists and maps never null.
func encode(req Request) ([]byte, error) {
	if req.DynamicMetadata == nil {
		req.DynamicMetadata = map[string]string{}
	}
	if req.Features == nil {
		req.Features = []string{}
	}
	return json.MarshalIndent(req, "", " ")
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

type client struct {
	url    *url.URL
	http   *http.Client
	log    *slog.Logger
	secret string
}

func newClient(cfg Config) (*client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("control plane URL: %w", err)
	}
	u.Path, u.RawPath, u.Fragment = Path, "", ""
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tr := &http.Transport{ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true}
	switch {
	case u.Host == "":
		return nil, fmt.Errorf("control plane URL %q has no host, give it as https://host:5678", u.Redacted())
	case u.Scheme == "https":
		if tr.TLSClientConfig, err = tlsConfig(cfg, log); err != nil {
			return nil, err
		}
	case u.Scheme == "http":
		log.Warn("the control plane is reached without TLS: the token crosses the network in clear", "url", u.Redacted())
	default:
		return nil, fmt.Errorf("control plane URL %q has scheme %q, use https", u.Redacted(), u.Scheme)
	}
	return &client{url: u, log: log, http: &http.Client{
		Transport:     tr,
		Timeout:       orDefault(cfg.Timeout, 10*time.Second),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// tlsConfig verifies always, unless told not to in so many words: unlike 2.9, no CA means the system's, not none
// (contract agent.md §2.4, the later default).
func tlsConfig(cfg Config, log *slog.Logger) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case cfg.SkipVerify && len(cfg.CACert) > 0:
		return nil, errors.New("both a CA and skip-verify are given: leave one out")
	case cfg.SkipVerify:
		log.Warn("the control plane's certificate is NOT verified: anyone on the network path can take over this proxy")
		out.InsecureSkipVerify = true
	case len(cfg.CACert) > 0:
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(cfg.CACert) {
			return nil, errors.New("could not add certificate: the CA of the control plane holds no PEM certificate")
		}
	}
	return out, nil
}

// try asks once. Errors wrapped in backoff.Permanent are final.
func (c *client) try(ctx context.Context, body []byte) (*Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := c.http.Do(req)
	took := time.Since(began)
	if err != nil {
		return nil, explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		if err != nil {
			return nil, fmt.Errorf("read answer with status %d: %w", resp.StatusCode, err)
		}
		return nil, c.classify(resp.StatusCode, text)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("read bootstrap: %w", err)
	}
	out, err := parse(resp.Header.Get("Content-Type"), text)
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		out.Date, out.RoundTrip = date, took
	}
	return out, nil
}

// explain adds what to do about an untrusted certificate, by far the commonest fault of a first start.
func explain(err error) error {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	if unknown || invalid {
		return fmt.Errorf("%w; give the control plane's CA with --ca-cert-file", err)
	}
	return err
}

func (c *client) classify(status int, body []byte) error {
	text := c.printable(body)
	switch {
	case status == http.StatusNotFound && len(body) == 0:
		return ErrNotFound
	case status == http.StatusNotFound && strings.TrimSpace(text) == "404: Page Not Found":
		return ErrWrongPort
	case status >= 400 && status < 500:
		return backoff.Permanent(fmt.Errorf("%w: %s", ErrInvalidRequest, text))
	case status >= 300 && status < 400:
		return fmt.Errorf("control plane answered with a redirect (%d), which is not followed", status)
	}
	return fmt.Errorf("control plane answered with status %d: %s", status, text)
}

// printable makes a peer's text fit for a terminal and a log: no control characters but line breaks, not our token.
func (c *client) printable(body []byte) string {
	text := strings.Map(func(r rune) rune {
		if r != '\n' && (r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(body), "?"))
	if c.secret != "" {
		text = strings.ReplaceAll(text, c.secret, "***")
	}
	return strings.TrimSpace(text)
}

// parse reads the answer of status 200.
func parse(contentType string, text []byte) (*Response, error) {
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != "application/json" {
		return nil, fmt.Errorf("bootstrap has content type %q, want application/json", contentType)
	}
	if len(text) > maxResponse {
		return nil, fmt.Errorf("bootstrap is longer than %d bytes", maxResponse)
	}
	var out Response
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("parse bootstrap: %w", err)
	}
	if len(out.Bootstrap) == 0 {
		return nil, errors.New("parse bootstrap: the answer holds no Envoy configuration")
	}
	return &out, nil
}
