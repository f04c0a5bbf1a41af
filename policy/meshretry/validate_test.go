package meshretry_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshretry"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	policytest.Validate(t, meshretry.Kind(), []policytest.Case{
		{Name: "good", Spec: "to: [{targetRef: {kind: Mesh}, default: {tcp: {maxConnectAttempt: 1}, grpc: {retryOn: [Canceled], perTryTimeout: 1s}, http: {numRetries: 0, retryOn: [5xx, HttpMethodGet, \"503\"], hostSelection: [{predicate: OmitPreviousHosts}, {predicate: OmitHostsWithTags, tags: {a: b}}, {predicate: OmitPreviousPriorities, updateFrequency: 2}], hostSelectionMaxAttempts: 3, rateLimitedBackOff: {resetHeaders: [{name: retry-after, format: Seconds}]}, retriableRequestHeaders: [{type: Prefix, name: x, value: b}]}}}]"},
		{Name: "nothing", Spec: "", Want: []string{"spec.to: needs at least one item"}},
		{Name: "empty", Spec: "to: [{targetRef: {kind: Mesh}}]", Want: []string{"spec.to[0].default.conf: at least one of the 'tcp', 'http', 'grpc' must be specified"}},
		{Name: "tcp", Spec: "to: [{targetRef: {kind: Mesh}, default: {tcp: {}}}]", Want: []string{"spec.to[0].default.conf.tcp.maxConnectAttempt: must be defined"}},
		{Name: "schema", Spec: "to: [{targetRef: {kind: Mesh}, default: {grpc: {retryOn: [x], rateLimitedBackOff: {resetHeaders: [{name: \"\", format: x}]}}, http: {retriableResponseHeaders: [{type: x, name: A}]}}}]", Want: []string{"spec.to[0].default.http.retriableResponseHeaders[0].type: in body should be one of [Exact Present RegularExpression Absent Prefix]", "spec.to[0].default.http.retriableResponseHeaders[0].name: in body should match '^[a-z0-9!#$%&'*+\\-.^_\\x60|~]+$'", "spec.to[0].default.grpc.rateLimitedBackOff.resetHeaders[0].name: in body should be at least 1 chars long", "spec.to[0].default.grpc.rateLimitedBackOff.resetHeaders[0].format: in body should be one of [Seconds UnixTimestamp]", "spec.to[0].default.grpc.retryOn[0]: in body should be one of [Canceled DeadlineExceeded Internal ResourceExhausted Unavailable]"}},
		{Name: "intervals", Spec: "to: [{targetRef: {kind: Mesh}, default: {http: {perTryTimeout: 0s, backOff: {baseInterval: 0s, maxInterval: 0s}, rateLimitedBackOff: {maxInterval: 0s}}}}]", Want: []string{"spec.to[0].default.conf.http.perTryTimeout: must be greater than zero when defined", "spec.to[0].default.conf.http.backOff.baseInterval: must be greater than zero when defined", "spec.to[0].default.conf.http.backOff.maxInterval: must be greater than zero when defined", "spec.to[0].default.conf.http.rateLimitedBackOff.resetHeaders: must be defined", "spec.to[0].default.conf.http.rateLimitedBackOff.maxInterval: must be greater than zero when defined"}},
		{Name: "host selection", Spec: "to: [{targetRef: {kind: Mesh}, default: {http: {retryOn: [HttpMethodFoo], hostSelection: [{predicate: x}, {predicate: OmitHostsWithTags}, {predicate: OmitPreviousPriorities, updateFrequency: 1}, {predicate: OmitPreviousPriorities}], hostSelectionMaxAttempts: 0}}}]", Want: []string{"spec.to[0].default.conf.http.retryOn[0]: unknown item 'HttpMethodFoo'", "spec.to[0].default.conf.http.hostSelection[0].predicate: unknown predicate type 'x'", "spec.to[0].default.conf.http.hostSelection[1].tags: must be defined", "spec.to[0].default.conf.http.hostSelection[3].updateFrequency: must be greater than 0", "spec.to[0].default.conf.http.hostSelection[3]: OmitPreviousPriorities must only be specified once", "spec.to[0].default.conf.http.hostSelectionMaxAttempts: must be greater than 0"}},
	})
}
