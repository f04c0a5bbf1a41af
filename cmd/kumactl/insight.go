package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// overview is a resource with its insight (contract controlplane.md §1.7, §2.1).
type overview struct {
	head
	Dataplane struct {
		Networking networking `json:"networking"`
	} `json:"dataplane"`
	DataplaneInsight  insight `json:"dataplaneInsight"`
	ZoneInsight       insight `json:"zoneInsight"`
	ZoneIngress       insight `json:"zoneIngressInsight"`
	ZoneEgressInsight insight `json:"zoneEgressInsight"`
}

// insight is what a control plane saw of a proxy or a zone.
type insight struct {
	Subscriptions []subscription `json:"subscriptions"`
	MTLS          *mtls          `json:"mTLS"`
}

type subscription struct {
	ConnectTime    *time.Time `json:"connectTime"`
	DisconnectTime *time.Time `json:"disconnectTime"`
	Status         struct {
		LastUpdateTime *time.Time `json:"lastUpdateTime"`
		Total          struct {
			Sent     count `json:"responsesSent"`
			Rejected count `json:"responsesRejected"`
		} `json:"total"`
	} `json:"status"`
	Version struct {
		KumaDP struct {
			Version    string `json:"version"`
			Compatible *bool  `json:"kumaCpCompatible"`
		} `json:"kumaDp"`
		Envoy struct {
			Version    string `json:"version"`
			Compatible *bool  `json:"kumaDpCompatible"`
		} `json:"envoy"`
		KumaCP struct {
			Version string `json:"version"`
		} `json:"kumaCp"`
		Dependencies map[string]string `json:"dependencies"`
	} `json:"version"`
}

type mtls struct {
	Expiration       *time.Time `json:"certificateExpirationTime"`
	LastRegeneration *time.Time `json:"lastCertificateRegeneration"`
	Regenerations    uint64     `json:"certificateRegenerations"`
	Issued           string     `json:"issuedBackend"`
	Supported        []string   `json:"supportedBackends"`
}

// count is a number that JSON of protobuf writes as a text.
type count uint64

// UnmarshalJSON reads both.
func (c *count) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseUint(strings.Trim(string(b), `"`), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is no count", b)
	}
	*c = count(n)
	return nil
}

// insight returns the one that there is.
func (o *overview) insight() *insight {
	for _, i := range []*insight{&o.DataplaneInsight, &o.ZoneInsight, &o.ZoneIngress, &o.ZoneEgressInsight} {
		if len(i.Subscriptions) > 0 {
			return i
		}
	}
	return &o.DataplaneInsight
}

// last returns the newest subscription, an empty one when there is none.
func (i *insight) last() *subscription {
	if n := len(i.Subscriptions); n > 0 {
		return &i.Subscriptions[n-1]
	}
	return &subscription{}
}

func (i *insight) mtls() *mtls {
	if i.MTLS == nil {
		return &mtls{}
	}
	return i.MTLS
}

const (
	online   = "Online"
	offline  = "Offline"
	degraded = "Partially degraded"
)

func (i *insight) status() string {
	if s := i.last(); s.ConnectTime != nil && s.DisconnectTime == nil {
		return online
	}
	return offline
}

// dataplaneStatus also looks at the inbounds: with none ready it is offline, with some partially degraded.
func (o *overview) dataplaneStatus() string {
	in := o.Dataplane.Networking.Inbound
	if o.Dataplane.Networking.Gateway != nil || len(in) == 0 || o.DataplaneInsight.status() == offline {
		return o.DataplaneInsight.status()
	}
	ready := 0
	for _, one := range in {
		if one.State != "NotReady" && (one.Health == nil || one.Health.Ready) {
			ready++
		}
	}
	switch ready {
	case len(in):
		return online
	case 0:
		return offline
	default:
		return degraded
	}
}

func (i *insight) total(of func(*subscription) count) string {
	var sum count
	for n := range i.Subscriptions {
		sum += of(&i.Subscriptions[n])
	}
	return strconv.FormatUint(uint64(sum), 10)
}

// subscriptionColumns tell about the connections to the control plane.
var subscriptionColumns = []column[overview]{
	{"LAST CONNECTED AGO", func(o *overview) string { return ago(o.insight().last().ConnectTime) }},
	{"LAST UPDATED AGO", func(o *overview) string { return ago(o.insight().last().Status.LastUpdateTime) }},
	{"TOTAL UPDATES", func(o *overview) string {
		return o.insight().total(func(s *subscription) count { return s.Status.Total.Sent })
	}},
	{"TOTAL ERRORS", func(o *overview) string {
		return o.insight().total(func(s *subscription) count { return s.Status.Total.Rejected })
	}},
}

// versionColumns tell about the programs of a proxy.
var versionColumns = []column[overview]{
	{"KUMA-DP VERSION", func(o *overview) string { return orUnknown(o.insight().last().Version.KumaDP.Version) }},
	{"ENVOY VERSION", func(o *overview) string { return orUnknown(o.insight().last().Version.Envoy.Version) }},
	{"DEPENDENCIES VERSIONS", func(o *overview) string {
		var list []string
		all := o.insight().last().Version.Dependencies
		for _, name := range slices.Sorted(maps.Keys(all)) {
			list = append(list, name+": "+all[name])
		}
		return orDash(strings.Join(list, ", "))
	}},
	{"NOTES", func(o *overview) string {
		var notes []string
		v := o.insight().last().Version
		if c := v.KumaDP.Compatible; c != nil && !*c {
			notes = append(notes, "kuma-dp is not compatible with the control plane")
		}
		if c := v.Envoy.Compatible; c != nil && !*c {
			notes = append(notes, "Envoy is not compatible with kuma-dp")
		}
		return strings.Join(notes, ", ")
	}},
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
