package relay

import (
	"context"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// A change of routes is make before break. Envoy takes clusters, endpoints and listeners as they come, so that
//   - a listener may lead to a cluster that is still warming: the relay holds changes of listeners back until Envoy serves
//     what it was newly given;
//   - a connection may outlive its listener, for Envoy's drain time, and lead to a cluster that is gone: the relay takes
//     clusters away that much later.
//
// Either would be answered 503 with the flag NC (Envoy's statistic no_cluster).

const (
	// LongestWarming bounds how long changes of listeners wait, so that a cluster that never gets warm (its health check
	// or name takes longer) does not stop the others.
	LongestWarming = 5 * time.Second
	// The time between two questions whether clusters are still warming: Envoy tells of endpoints, but not of a first
	// health check or of a name that was resolved.
	firstQuestion, lastQuestion = 2 * time.Millisecond, 50 * time.Millisecond
)

// warming is what Envoy needs before it can serve listeners that lead to new clusters. The relay's lock guards it.
type warming struct {
	// going is set from when a new cluster is given until all are warm.
	going bool
	// endpoints are those of new clusters that Envoy has not acknowledged.
	endpoints map[string]struct{}
	// limit calls Relay.warmed.
	limit *time.Timer
}

// newClusters notes the clusters of a delivery that Envoy does not have yet. What it begins with it orders by itself.
func (r *Relay) newClusters(s *subscription, answer *deltaResponse) {
	if !r.listening() {
		return
	}
	for _, c := range answer.resources {
		if version, ok := s.given[c.name]; ok && version != absent {
			continue // it serves as it was until the change is warm
		}
		r.warming.going = true
		if byEndpoints(c.body.GetValue()) {
			r.warming.endpoints[endpointsOf(c.body.GetValue(), c.name)] = struct{}{}
		}
	}
	if r.warming.going {
		r.warming.limit.Reset(LongestWarming)
	}
}

// byEndpoints says whether a Cluster gets its endpoints by name: Cluster.type(2) is EDS.
func byEndpoints(cluster []byte) bool {
	const eds = 3
	kind := uint64(0)
	err := protofield.Each(cluster, func(field protowire.Number, _ []byte, num uint64) error {
		if field == 2 {
			kind = num
		}
		return nil
	})
	return err == nil && kind == eds
}

// noteWarm takes from what is warming what an answer of Envoy says. Of clusters that it refuses it will ask no endpoints.
func (r *Relay) noteWarm(s *subscription, q *deltaRequest, d *delivery) {
	if s.typeURL != clusterType && s.typeURL != endpointType {
		return
	}
	if s.typeURL == clusterType {
		for name := range s.refused {
			delete(r.warming.endpoints, endpointsOf(s.have[name].body.GetValue(), name))
		}
	} else {
		if d != nil {
			for name := range d.versions {
				delete(r.warming.endpoints, name)
			}
			for _, name := range d.removed {
				delete(r.warming.endpoints, name)
			}
		}
		for _, name := range q.unsubscribe {
			delete(r.warming.endpoints, name)
		}
	}
	switch {
	case len(r.warming.endpoints) > 0 || r.sub(clusterType).inflight != nil:
	case !r.warming.going || r.cfg.Warming == nil:
		r.warmed()
	default:
		select {
		case r.question <- struct{}{}:
		default: // it is being asked
		}
	}
}

// warmed lets changes of listeners go on. The caller holds the lock.
func (r *Relay) warmed() {
	r.warming.going = false
	clear(r.warming.endpoints)
	r.warming.limit.Stop()
	if s, ok := r.subs[listenerType]; ok {
		r.flush(s)
	}
}

// listening says whether Envoy has been given listeners on its present stream.
func (r *Relay) listening() bool {
	s, ok := r.subs[listenerType]
	return ok && len(s.given) > 0
}

// waits says whether a change of a type must wait for clusters.
func (r *Relay) waits(s *subscription) bool {
	if s.typeURL != listenerType || !r.listening() {
		return false
	}
	clusters := r.subs[clusterType]
	return r.warming.going || clusters != nil && clusters.inflight != nil
}

// askWarming asks Envoy, when its new clusters have their endpoints, whether they are warm.
func (r *Relay) askWarming(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.question:
		}
		for wait := firstQuestion; r.stillWarming(ctx); wait = min(2*wait, lastQuestion) {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
		}
	}
}

func (r *Relay) stillWarming(ctx context.Context) bool {
	n, err := r.cfg.Warming(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch clusters := r.subs[clusterType]; {
	case !r.warming.going || len(r.warming.endpoints) > 0 || clusters != nil && clusters.inflight != nil:
		return false // over, or newer clusters have come: their answer asks again
	case err == nil && n > 0:
		return true
	default:
		r.warmed()
		return false
	}
}

// leaving are the clusters that the control plane has taken away and Envoy keeps for a while. The relay's lock guards it.
type leaving struct {
	until map[string]time.Time
	// next calls Relay.takeAway when the first of them is due.
	next *time.Timer
}

// keeps says whether Envoy keeps a cluster that is no more; its time starts when that is asked first.
func (r *Relay) keeps(name string) bool {
	until, ok := r.leaving.until[name]
	if !ok {
		until = time.Now().Add(r.cfg.Grace)
		if len(r.leaving.until) == 0 { // else it is set to an earlier one
			r.leaving.next.Reset(r.cfg.Grace)
		}
		r.leaving.until[name] = until
	}
	return time.Now().Before(until)
}

// takeAway takes from Envoy the clusters that it has kept long enough.
func (r *Relay) takeAway() {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sub(clusterType)
	r.flush(s)
	now := time.Now()
	var first time.Time
	for name, until := range r.leaving.until {
		switch _, given := s.given[name]; {
		case now.Before(until):
			if first.IsZero() || until.Before(first) {
				first = until
			}
		case !given: // Envoy began anew meanwhile
			delete(r.leaving.until, name)
		}
	}
	if !first.IsZero() {
		r.leaving.next.Reset(first.Sub(now))
	}
}
