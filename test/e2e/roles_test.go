//go:build linux

package e2e

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestProducerAndConsumerPolicies runs the page of that name.
func TestProducerAndConsumerPolicies(t *testing.T) {
	p := readPage(t, "producer-and-consumer-policies.md")
	p.scene = scenetest.New(t, "kuma-roles")
	p.before["workloads"] = func() {
		for name, namespace := range map[string]string{"demo-app": "provider", "first": "first-consumer", "second": "second-consumer"} {
			p.add(scene.WorkloadConfig{
				Name: name, Service: name, Dataplane: p.file("dataplane"), Args: []string{"--dataplane-var", "namespace=" + namespace},
			})
		}
	}
	p.run()
}
