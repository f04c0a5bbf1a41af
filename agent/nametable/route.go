package nametable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kuma-dp/kuma-dp/dns"
)

const (
	fetchTimeout = 5 * time.Second
	maxDocument  = 64 << 20 // as large as an answer of the control plane may be
)

// document is the answer to GET /dns (contract dns.md §3.2). Unknown fields are ignored.
type document struct {
	Records []struct {
		Name string   `json:"name"`
		IPs  []string `json:"ips"`
	} `json:"records"`
	TTL         float64           `json:"ttl"` // seconds
	ExtraLabels map[string]string `json:"extraLabels"`
}

// table makes the resolver's table and says which addresses are none. One with a dot is for A records, also in the IPv6
// form of an IPv4 address; ::ffff:f100:0 is for AAAA records.
func (d *document) table() (*dns.Table, []string) {
	var skipped []string
	records := make([]dns.Record, 0, len(d.Records))
	for _, r := range d.Records {
		rec := dns.Record{Name: r.Name}
		for _, text := range r.IPs {
			addr, err := netip.ParseAddr(text)
			switch {
			case err != nil:
				skipped = append(skipped, fmt.Sprintf("%s: %q", r.Name, text))
				continue
			case strings.Contains(text, "."):
				addr = addr.Unmap()
			}
			rec.Addrs = append(rec.Addrs, addr)
		}
		records = append(records, rec)
	}
	ttl := dns.DefaultTTL
	if d.TTL > 0 {
		ttl = time.Duration(min(d.TTL, 1<<31-1)) * time.Second
	}
	return dns.NewTable(records, ttl), skipped
}

// route asks Envoy. It is used by one goroutine.
type route struct {
	client *http.Client
	etag   string // of the table in use
	got    string // of the last document

	calls, errors prometheus.Counter
	took          prometheus.Histogram
}

func (r *route) init(socket string, reg prometheus.Registerer) error {
	r.client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{MaxIdleConns: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}},
	}
	// The names are those of Kuma.
	path := prometheus.Labels{"path": "/dns"}
	const space, sub = "kuma_dp", "envoyconfigfetcher"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: space, Subsystem: sub, Name: name, Help: help, ConstLabels: path})
	}
	r.calls = counter("handler_call_count", "Questions for a configuration to Envoy.")
	r.errors = counter("error_count", "Questions that brought neither an answer nor a plain no.")
	r.took = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: space, Subsystem: sub, Name: "handler_call_duration_seconds", Help: "Time of a question.", ConstLabels: path, Buckets: prometheus.DefBuckets,
	})
	if reg == nil {
		return nil
	}
	return errors.Join(reg.Register(r.calls), reg.Register(r.errors), reg.Register(r.took))
}

func (r *route) close() { r.client.CloseIdleConnections() }

// applied notes that the last document is in use: it need not be sent again.
func (r *route) applied() { r.etag = r.got }

// forget makes the next document a new one.
func (r *route) forget() { r.etag = "" }

// fetch returns the document when it is another than the one in use, nil when it is not, or when there is none at the
// moment, which is no error: Envoy starts, or a listener is replaced.
func (r *route) fetch(ctx context.Context) (doc *document, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	began := time.Now()
	r.calls.Inc()
	defer func() {
		r.took.Observe(time.Since(began).Seconds())
		if err != nil {
			r.errors.Inc()
			err = fmt.Errorf("GET /dns: %w", err)
		}
	}()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/dns", nil)
	if err != nil {
		return nil, err
	}
	if r.etag != "" {
		q.Header.Set("If-None-Match", r.etag)
	}
	answer, err := r.client.Do(q)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxDocument:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxDocument)
	}
	switch answer.StatusCode {
	case http.StatusOK:
		doc = &document{}
		if err := json.Unmarshal(body, doc); err != nil {
			return nil, err
		}
		if doc.Records == nil {
			return nil, errors.New("the answer has no records")
		}
		r.got = answer.Header.Get("Etag")
		return doc, nil
	case http.StatusNotModified:
		return nil, nil
	case http.StatusNotFound:
		r.forget()
		return nil, nil
	}
	return nil, fmt.Errorf("envoy answered %s", answer.Status)
}
