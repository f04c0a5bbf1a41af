package xds

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// keptSubscriptions is how many subscriptions an insight holds (contract controlplane.md §1.7).
const keptSubscriptions = 2

// commitTries bounds the attempts to write an insight while others write it too.
const commitTries = 16

// subscription is one stream in the insight of its proxy.
type subscription struct {
	l       *Lifecycle
	id      topology.ProxyID
	uuid    string
	connect time.Time
	version *resource.ProxyVersion
	// brought: the proxy brought its Dataplane along.
	brought bool

	// Of Lifecycle.mu:
	status resource.SubscriptionStatus
	end    time.Time
	over   bool
}

func newSubscription(l *Lifecycle, node *Node, brought bool) *subscription {
	s := &subscription{l: l, id: node.ID, uuid: uuid.NewString(), connect: time.Now().UTC(), brought: brought}
	if v := node.Meta.Version; v != nil {
		c := *v
		if v.KumaDp != nil {
			k := *v.KumaDp
			k.KumaCpCompatible = compatible(k.Version, l.cfg.Version)
			c.KumaDp = &k
		}
		s.version = &c
	}
	return s
}

// Sent implements Subscription.
func (s *subscription) Sent(typeURL string) {
	s.count(typeURL, func(c *resource.ServiceStats) { c.ResponsesSent++ })
}

// Acknowledged implements Subscription.
func (s *subscription) Acknowledged(typeURL string) {
	s.count(typeURL, func(c *resource.ServiceStats) { c.ResponsesAcknowledged++ })
	s.answered(typeURL)
}

// Rejected implements Subscription.
func (s *subscription) Rejected(typeURL string) {
	s.count(typeURL, func(c *resource.ServiceStats) { c.ResponsesRejected++ })
	s.answered(typeURL)
}

func (s *subscription) count(typeURL string, add func(*resource.ServiceStats)) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	add(&s.status.Total)
	switch typeURL {
	case TypeCluster:
		add(&s.status.CDS)
	case TypeEndpoint:
		add(&s.status.EDS)
	case TypeListener:
		add(&s.status.LDS)
	case TypeRoute:
		add(&s.status.RDS)
	}
	s.status.LastUpdateTime = stamp(time.Now())
	s.l.dirty[s] = true
	if s.l.flush == nil {
		s.l.flush = time.AfterFunc(s.l.cfg.Flush, func() {
			s.l.mu.Lock()
			defer s.l.mu.Unlock()
			s.l.flush = nil
			s.l.signal()
		})
	}
}

// End implements Subscription.
func (s *subscription) End(stopping bool) {
	s.l.depart(s.id, stopping)
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.end, s.over = time.Now().UTC(), true
	delete(s.l.dirty, s)
	s.l.ended = append(s.l.ended, s)
	s.l.signal()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// record is the subscription as the insight shows it.
func (s *subscription) record() *resource.Subscription {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	status := s.status
	if status.LastUpdateTime == "" {
		status.LastUpdateTime = stamp(s.connect)
	}
	out := &resource.Subscription{
		ID: s.uuid, ControlPlaneInstanceID: s.l.cfg.InstanceID, ConnectTime: stamp(s.connect), Status: &status, Version: s.version,
	}
	if s.over {
		out.DisconnectTime = stamp(s.end)
	}
	return out
}

// commit writes a subscription into the insight of its proxy, together with an operation that comes first, if any: it is
// made again when somebody else has written meanwhile.
func (l *Lifecycle) commit(ctx context.Context, s *subscription, first func(again bool) (store.Op, error)) error {
	var err error
	for try := range commitTries {
		var ops []store.Op
		if first != nil {
			op, ferr := first(try > 0)
			if ferr != nil {
				return ferr
			}
			ops = append(ops, op)
		}
		op, oerr := l.insightOp(s)
		if oerr != nil {
			return oerr
		}
		_, err = l.cfg.Store.Commit(ctx, append(ops, op)...)
		if err == nil || !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if first == nil && errors.Is(err, store.ErrNotFound) {
			return nil // the Dataplane is gone, and its insight with it
		}
	}
	return err
}

func (l *Lifecycle) insightOp(s *subscription) (store.Op, error) {
	key := l.key(s.id)
	owner := key
	key.Kind = l.insightKind()
	old, err := l.cfg.Store.Get(key)
	op := store.Op{Action: store.Update}
	switch {
	case errors.Is(err, store.ErrNotFound):
		op = store.Op{Action: store.Create, Owner: owner, Resource: &resource.Resource{
			Meta: resource.Meta{Key: key}, Spec: l.newInsight(),
		}}
	case err != nil:
		return op, err
	default:
		op.Resource, op.ExpectVersion = old.Clone(), old.Version
	}
	list := subscriptions(op.Resource)
	record := s.record()
	if i := slices.IndexFunc(*list, func(o *resource.Subscription) bool { return o.ID == s.uuid }); i >= 0 {
		(*list)[i] = record
	} else if record.DisconnectTime == "" {
		*list = append(*list, record)
	}
	if extra := len(*list) - keptSubscriptions; extra > 0 {
		*list = slices.Delete(*list, 0, extra)
	}
	return op, nil
}

// closeStale ends the subscriptions that a control plane left open when it crashed: with one control plane per store they
// can only be ours of an earlier life.
func (l *Lifecycle) closeStale(ctx context.Context) {
	for _, r := range l.cfg.Store.List(l.insightKind(), "") {
		c := r.Clone()
		changed := false
		for _, sub := range *subscriptions(c) {
			if sub.DisconnectTime == "" && sub.ControlPlaneInstanceID != l.cfg.InstanceID {
				sub.DisconnectTime = stamp(time.Now())
				changed = true
			}
		}
		if !changed {
			continue
		}
		op := store.Op{Action: store.Update, Resource: c, ExpectVersion: r.Version}
		if _, err := l.cfg.Store.Commit(ctx, op); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrConflict) {
			l.log.Warn("could not end an old subscription", "mesh", r.Mesh, "proxy", r.Name, "error", err)
		}
	}
}
