package alltest

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/resource"
)

// olderBackends are what the Mesh has for TrafficLog and TrafficTrace.
const olderBackends = `logging: {defaultBackend: file, backends: [{name: file, type: file, conf: {path: /tmp/older}}, {name: tcp, type: tcp, conf: {address: 'logs.example:9'}}]}
tracing: {defaultBackend: zipkin, backends: [{name: zipkin, type: zipkin, conf: {url: 'http://zipkin.example:9411/api/v2/spans'}}, {name: datadog, type: datadog, conf: {address: 192.0.2.7, port: 8126}}]}
`

// olderConfs draw what policies from before target references say.
var olderConfs = map[resource.Kind]func(*rapid.T) string{
	resource.KindTrafficPermission: one(""),
	resource.KindTrafficLog:        one("", "conf: {backend: tcp}", "conf: {backend: none}"),
	resource.KindTrafficTrace:      one("", "conf: {backend: datadog}", "conf: {backend: none}"),
	resource.KindFaultInjection:    one("conf: {abort: {httpStatus: 503, percentage: %d}}", "conf: {delay: {value: %ds, percentage: 50}}"),
	resource.KindRateLimit:         one("conf: {http: {requests: %d, interval: 1s}}", "conf: {http: {requests: 1, interval: %ds, onRateLimit: {status: 423}}}"),
}

// olderDocument is a policy whose selectors say the more the later its name is. Of those that say as much the newest counts:
// what is to depend on no age has another rank under each name.
func olderDocument(t *rapid.T, kind resource.Kind, name, conf string) string {
	selector := func(label, name string) string {
		service, team := pick(t, label, "web", "store", "edge"), pick(t, label+"'s team", "a", "b")
		match := map[string]string{"a": "{kuma.io/service: '*'}", "b": "{kuma.io/service: " + service + "}", "z": "{kuma.io/service: " + service + ", team: " + team + "}"}[name]
		return "[{match: " + match + "}]"
	}
	if kind == resource.KindTrafficTrace {
		return fmt.Sprintf("type: %s\nmesh: m\nname: %s\nselectors: %s\n%s\n", kind, name, selector("who", name), conf)
	}
	to := name
	if kind == resource.KindTrafficLog && to == "z" {
		to = "b" // only a service can be logged
	}
	return fmt.Sprintf("type: %s\nmesh: m\nname: %s\nsources: %s\ndestinations: %s\n%s\n", kind, name, selector("from whom", name), selector("to whom", to), conf)
}
