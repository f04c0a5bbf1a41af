package client

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
	"os"
	"strings"
	"time"
)

// maxText is how much of an answer that is no error of ours is shown.
const maxText = 300

// maxAnswer bounds what a control plane may send: far above the largest page.
const maxAnswer = 256 << 20

// Client speaks to one control plane. It is safe for concurrent use.
type Client struct {
	server APIServer
	http   *http.Client
	log    *slog.Logger
}

// New returns a client. timeout bounds every request, 0 does not. log hears of every request, at debug, but of no
// header or body, which may hold secrets.
func New(server APIServer, timeout time.Duration, log *slog.Logger) (*Client, error) {
	u, err := CheckURL(server.URL)
	if err != nil {
		return nil, err
	}
	server.URL = u
	if server.AuthType != "" && server.AuthType != "tokens" {
		return nil, fmt.Errorf("authentication type %q is not known, want tokens", server.AuthType)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: server.SkipVerify} //nolint:gosec // only on explicit demand
	if server.CACertFile != "" {
		b, err := os.ReadFile(server.CACertFile)
		if err != nil {
			return nil, fmt.Errorf("read the control plane's authority: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("read the control plane's authority: %s holds no PEM certificate", server.CACertFile)
		}
	}
	if server.ClientCertFile != "" {
		pair, err := tls.LoadX509KeyPair(server.ClientCertFile, server.ClientKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableKeepAlives: false}
	return &Client{server: server, log: log, http: &http.Client{
		Transport: transport, Timeout: timeout,
		// A redirect could carry the token to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is a refusal by the control plane.
type Error struct {
	Status  int
	Title   string
	Detail  string
	Invalid []Param
}

// Param is a field at fault.
type Param struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// Error is one line: title, detail and every field at fault.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Title)
	if e.Detail != "" {
		b.WriteString(" (" + e.Detail + ")")
	}
	for i, p := range e.Invalid {
		b.WriteString([]string{": ", "; "}[min(i, 1)] + p.Field + " " + p.Reason)
	}
	return b.String()
}

// IsNotFound tells whether err is the control plane's 404.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// Do sends a request with a JSON body, nil for none, and returns the body of an answer below 300.
func (c *Client) Do(ctx context.Context, method string, path []string, query url.Values, body []byte) ([]byte, error) {
	segments := make([]string, len(path))
	for i, p := range path {
		segments[i] = url.PathEscape(p)
	}
	target := c.server.URL + "/" + strings.Join(segments, "/")
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range c.server.Headers {
		req.Header.Set(h.Key, h.Value)
	}
	if t := c.server.AuthConf["token"]; t != "" {
		req.Header.Set("Authorization", "Bearer "+t)
	}
	start := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		c.log.DebugContext(ctx, "request failed", "method", method, "url", target, "took", time.Since(start))
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
			err = fmt.Errorf("%w: name its authority with `kumactl config control-planes add --ca-cert-file`", err)
		}
		return nil, fmt.Errorf("connect to the control plane at %s: %w", c.server.URL, err)
	}
	defer resp.Body.Close()
	c.log.DebugContext(ctx, "request", "method", method, "url", target, "status", resp.StatusCode, "took", time.Since(start))
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.server.URL, err)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("the answer of %s is larger than %d bytes", c.server.URL, maxAnswer)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, refusal(resp, answer)
	}
	return answer, nil
}

func refusal(resp *http.Response, answer []byte) error {
	var body struct {
		Title   string  `json:"title"`
		Detail  string  `json:"detail"`
		Details string  `json:"details"`
		Invalid []Param `json:"invalid_parameters"`
		Causes  []struct {
			Field   string `json:"field"`
			Message string `json:"message"`
		} `json:"causes"`
	}
	if json.Unmarshal(answer, &body) != nil || body.Title == "" {
		e := &Error{Status: resp.StatusCode, Title: "the control plane answered " + resp.Status}
		if mime, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mime == "text/plain" {
			e.Detail = strings.TrimSpace(string(answer[:min(len(answer), maxText)]))
		}
		return e
	}
	e := &Error{Status: resp.StatusCode, Title: body.Title, Detail: body.Detail, Invalid: body.Invalid}
	if e.Detail == "" {
		e.Detail = body.Details // older control planes
	}
	if e.Invalid == nil {
		for _, c := range body.Causes {
			e.Invalid = append(e.Invalid, Param{c.Field, c.Message})
		}
	}
	return e
}

// Index is what a control plane says about itself.
type Index struct {
	Product    string `json:"product"`
	Version    string `json:"version"`
	InstanceID string `json:"instanceId"`
	ClusterID  string `json:"clusterId"`
}

// Index asks for it. It fails for a server that is no control plane.
func (c *Client) Index(ctx context.Context) (*Index, error) {
	b, err := c.Do(ctx, http.MethodGet, []string{""}, nil, nil)
	if err != nil {
		return nil, err
	}
	i := new(Index)
	if err := json.Unmarshal(b, i); err != nil || i.Product == "" {
		return nil, fmt.Errorf("%s is not a control plane: it does not say its product and version", c.server.URL)
	}
	return i, nil
}
