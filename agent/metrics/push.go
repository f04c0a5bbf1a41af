package metrics

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

const (
	exportMethod = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
	pushTimeout  = 10 * time.Second
)

// push keeps a pusher for every collector of the policy until ctx ends.
func (h *Hijacker) push(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	running := map[openTelemetry]context.CancelFunc{}
	dir := filepath.Dir(filepath.Clean(h.cfg.Path))
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.changed:
		}
		wanted, refused := h.policy.Load().collectors(dir)
		for _, endpoint := range refused {
			h.cfg.Log.Error("metrics are not pushed: the control plane named a socket that is none of this agent's", "socket", endpoint)
		}
		keep := map[openTelemetry]context.CancelFunc{}
		for _, c := range wanted {
			cancel := running[c]
			if cancel == nil {
				cancel = keep[c] // named twice
			}
			if cancel == nil {
				var sub context.Context
				sub, cancel = context.WithCancel(ctx)
				all.Go(func() { h.pushTo(sub, c) })
			}
			keep[c] = cancel
			delete(running, c)
		}
		for _, cancel := range running {
			cancel()
		}
		running = keep
	}
}

// pushTo pushes to one collector, at once and after every interval. What cannot be sent is lost: the next push has the
// newer state of the same counters.
func (h *Hijacker) pushTo(ctx context.Context, to openTelemetry) {
	log := h.cfg.Log.With("collector", to.Name)
	conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", to.Endpoint)
		}))
	if err != nil {
		log.Error("metrics are not pushed", "reason", err.Error())
		return
	}
	defer func() { _ = conn.Close() }() // nothing is under way
	tick := time.NewTicker(to.Interval)
	defer tick.Stop()
	told := false
	for {
		err := h.pushOnce(ctx, conn)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !told: // the same trouble is told once
			log.Warn("metrics cannot be pushed", "reason", err.Error())
		case err == nil && told:
			log.Info("metrics are pushed again")
		}
		told = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (h *Hijacker) pushOnce(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	f, err := h.gather(ctx, true, url.Values{})
	if err != nil {
		return err
	}
	for _, request := range otlp(f, h.cfg.Labels["service"], h.began, time.Now()) {
		if err := export(ctx, conn, request); err != nil {
			return err
		}
	}
	return nil
}

// export sends one request. MetricsData is on the wire what ExportMetricsServiceRequest is, whose package would bring a
// whole HTTP gateway along.
func export(ctx context.Context, conn *grpc.ClientConn, request *metricsv1.MetricsData) error {
	answer := &emptypb.Empty{}
	// Envoy's socket comes only after the configuration that names it: wait for it.
	if err := conn.Invoke(ctx, exportMethod, request, answer, grpc.WaitForReady(true)); err != nil {
		return err
	}
	if n, why := rejected(answer.ProtoReflect().GetUnknown()); n > 0 {
		return fmt.Errorf("the collector rejected %d points: %s", n, why)
	}
	return nil
}

// rejected reads ExportMetricsServiceResponse.partial_success(1): rejected_data_points(1), error_message(2).
func rejected(answer []byte) (points int64, why string) {
	_ = protofield.At(answer, func(partial []byte) error { // what cannot be read tells nothing
		return protofield.Each(partial, func(field protowire.Number, text []byte, n uint64) error {
			switch field {
			case 1:
				points = int64(n)
			case 2:
				why = string(text)
			}
			return nil
		})
	}, 1)
	return points, why
}
