package xds

import (
	"context"
	"fmt"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Registrars hands each proxy to the Registrar of its type, as its metadata tells it.
type Registrars struct{ Dataplanes, Ingresses, Egresses Registrar }

// Register implements Registrar.
func (r Registrars) Register(ctx context.Context, node *Node) (Subscription, error) {
	var one Registrar
	switch node.Meta.ProxyType {
	case "", bootstrap.TypeDataplane:
		one = r.Dataplanes
	case bootstrap.TypeIngress:
		one = r.Ingresses
	case bootstrap.TypeEgress:
		one = r.Egresses
	}
	if one == nil {
		return nil, fmt.Errorf("proxy type %.50q is not supported", node.Meta.ProxyType)
	}
	return one.Register(ctx, node)
}

func (l *Lifecycle) insightKind() resource.Kind { return l.cfg.Kind + "Insight" }

func (l *Lifecycle) newInsight() resource.Spec {
	if l.cfg.Kind == resource.KindDataplane {
		return &resource.DataplaneInsight{}
	}
	return &resource.ZoneProxyInsight{}
}

// subscriptions are those of an insight of any kind of proxy.
func subscriptions(insight *resource.Resource) *[]*resource.Subscription {
	if d, ok := insight.Spec.(*resource.DataplaneInsight); ok {
		return &d.Subscriptions
	}
	return &resource.SpecOf[*resource.ZoneProxyInsight](insight).Subscriptions
}
