// Package metrics gathers the metrics of a workload and of Envoy: into one page, on an owner-only unix socket that Envoy's
// metrics listener asks, and for OpenTelemetry collectors, to which it pushes them (contract agent.md §4.4, §4.5).
package metrics

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/kuma-dp/kuma-dp/agent/socket"
)

const (
	scrapeTimeout = 10 * time.Second
	maxPage       = 32 << 20 // of one target, in bytes
	maxSamples    = 500_000  // of one target
)

// Application is one endpoint of the workload. Where it is comes from the control plane only, never from who asks
// (demands.md §3.3, assertion 21).
type Application struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Port    uint32 `json:"port"`
	Path    string `json:"path"`
}

// Config says what a Hijacker gathers.
type Config struct {
	// Path is the unix socket's, as the control plane computes it.
	Path string
	// Applications are those of Mesh.metrics.
	Applications []Application
	// Address is the Dataplane's; it replaces an empty address of an application.
	Address string
	// Envoy asks Envoy's admin interface for a path with a query.
	Envoy func(ctx context.Context, pathAndQuery string) (io.ReadCloser, error)
	// Own are the agent's metrics; nil for none.
	Own prometheus.Gatherer
	// Source, when valid, is the address from which applications are asked, so that redirection lets it pass.
	Source, Source6 net.IP
	// Labels are added to every sample of a MeshMetric page or push. The label service also names the resource of pushes.
	Labels map[string]string
	Log    *slog.Logger
}

// Hijacker serves the page.
type Hijacker struct {
	cfg      Config
	listener net.Listener
	client   *http.Client
	began    time.Time
	policy   atomic.Pointer[configuration] // nil without a MeshMetric policy
	changed  chan struct{}                 // has room for one
	labels   atomic.Pointer[map[string]string]
}

// New binds the socket.
func New(cfg Config) (*Hijacker, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := socket.Listen(cfg.Path)
	if err != nil {
		return nil, err
	}
	h := &Hijacker{cfg: cfg, listener: l, began: time.Now(), changed: make(chan struct{}, 1)}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	h.client = &http.Client{Timeout: scrapeTimeout, CheckRedirect: noRedirect, Transport: &http.Transport{DialContext: h.dial, DisableKeepAlives: true}}
	return h, nil
}

// LabelOwn puts labels on the agent's own metrics, from the next page on.
func (h *Hijacker) LabelOwn(labels map[string]string) {
	labels = maps.Clone(labels)
	h.labels.Store(&labels)
}

// own returns the agent's own metrics.
func (h *Hijacker) own() families {
	out := families{}
	if h.cfg.Own == nil {
		return out
	}
	gathered, err := h.cfg.Own.Gather()
	if err != nil { // what was gathered is good
		h.cfg.Log.Warn("some of the agent's metrics are left out", "reason", err.Error())
	}
	labels := h.labels.Load()
	for _, f := range gathered {
		for _, m := range f.Metric {
			m.Label = slices.Clone(m.Label) // the registry's own, of every gathering
		}
		if labels != nil {
			addLabels(f, *labels)
		}
		out[f.GetName()] = f
	}
	return out
}

func (h *Hijacker) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil {
		source := h.cfg.Source6
		if ip.To4() != nil {
			source = h.cfg.Source
		}
		if source != nil {
			d.LocalAddr = &net.TCPAddr{IP: source}
		}
	}
	return d.DialContext(ctx, network, address)
}

// Run serves and pushes until ctx ends.
func (h *Hijacker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var pushing sync.WaitGroup
	pushing.Go(func() { h.push(ctx) })
	defer func() { cancel(); pushing.Wait() }()
	server := &http.Server{
		Handler: http.HandlerFunc(h.serve), ReadHeaderTimeout: time.Second, WriteTimeout: 2 * scrapeTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(h.cfg.Log.Handler(), slog.LevelDebug),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); _ = server.Close() })
	err := server.Serve(h.listener)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (h *Hijacker) serve(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(q.Context(), scrapeTimeout)
	defer cancel()
	families, err := h.gather(ctx, strings.HasPrefix(q.URL.Path, "/meshmetric"), q.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	var page bytes.Buffer
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	encoder := expfmt.NewEncoder(&page, format)
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if err := encoder.Encode(families[name]); err != nil {
			h.cfg.Log.Debug("metric left out", "name", name, "reason", err.Error())
		}
	}
	w.Header().Set("content-type", string(format))
	_, _ = w.Write(page.Bytes()) // who has gone needs no page
}

type families = map[string]*dto.MetricFamily

// gather asks all targets at once. A target that fails contributes nothing.
func (h *Hijacker) gather(ctx context.Context, meshMetric bool, query url.Values) (families, error) {
	apps, keep := h.cfg.Applications, func(families) {}
	var labels map[string]string
	query = maps.Clone(query)
	query.Set("format", "prometheus")
	query.Set("text_readouts", "")
	if meshMetric {
		d := h.policy.Load()
		if d == nil {
			return nil, errors.New("there is no MeshMetric policy")
		}
		apps, keep = d.Applications, d.Sidecar.filter
		labels = maps.Clone(h.cfg.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, d.ExtraLabels)
		if !d.Sidecar.IncludeUnused {
			query.Set("usedonly", "")
		}
	}
	results := make([]families, len(apps)+1)
	var wg sync.WaitGroup
	for i, app := range apps {
		wg.Go(func() {
			f, err := h.scrape(ctx, app)
			if err != nil {
				h.cfg.Log.Warn("application's metrics are left out", "application", app.Name, "reason", err.Error())
			}
			results[i] = f
		})
	}
	wg.Go(func() {
		body, err := h.cfg.Envoy(ctx, "/stats?"+query.Encode())
		if err == nil {
			results[len(apps)], err = parse(body)
		}
		if err != nil {
			h.cfg.Log.Warn("envoy's metrics are left out", "reason", err.Error())
		}
		keep(results[len(apps)])
	})
	wg.Wait()
	out := h.own()
	for _, r := range results {
		merge(out, r)
	}
	for _, f := range out {
		addLabels(f, labels)
	}
	return out, nil
}

func (h *Hijacker) scrape(ctx context.Context, app Application) (families, error) {
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(cmp.Or(app.Address, h.cfg.Address), strconv.FormatUint(uint64(app.Port), 10))}
	path, err := url.Parse(cmp.Or(app.Path, "/metrics"))
	if err != nil || path.Host != "" || path.Scheme != "" {
		return nil, fmt.Errorf("path %q is not a path", app.Path)
	}
	u.Path = path.Path
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("accept", "text/plain;version=0.0.4")
	answer, err := h.client.Do(q)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("it answered %s", answer.Status), answer.Body.Close())
	}
	return parse(answer.Body)
}

// parse reads a page in the text format and closes it.
func parse(body io.ReadCloser) (families, error) {
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxPage+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPage {
		return nil, fmt.Errorf("the page has more than %d bytes", maxPage)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	f, err := parser.TextToMetricFamilies(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	n := 0
	for _, family := range f {
		n += len(family.GetMetric())
	}
	if n > maxSamples {
		return nil, fmt.Errorf("the page has %d samples, more than %d", n, maxSamples)
	}
	return f, nil
}

// merge adds families; one whose type differs from that of its namesake is left out, for a page cannot hold both.
func merge(into, from families) {
	for name, f := range from {
		if have, ok := into[name]; !ok {
			into[name] = f
		} else if have.GetType() == f.GetType() {
			have.Metric = append(have.Metric, f.Metric...)
		}
	}
}

// addLabels puts labels on every sample that has none of the name.
func addLabels(f *dto.MetricFamily, labels map[string]string) {
	for _, m := range f.GetMetric() {
		for name, value := range labels {
			if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name }) {
				m.Label = append(m.Label, &dto.LabelPair{Name: &name, Value: &value})
			}
		}
		slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	}
}
