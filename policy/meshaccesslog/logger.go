package meshaccesslog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpcv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	otlpv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// loggers makes the loggers of one proxy, which share the clusters of collectors.
type loggers struct {
	env        effect.Env
	collectors map[collector]string
	add        func(*effect.Cluster)
	warn       func(format string, args ...any)
	refused    map[string]bool // endpoints that were warned of
}

type collector struct {
	host string
	port uint32
}

// cluster returns the name of a collector's cluster, and makes it at first use.
func (l *loggers) cluster(c collector) string {
	name, known := l.collectors[c]
	if !known {
		name = "meshaccesslog:opentelemetry:" + strconv.Itoa(len(l.collectors))
		l.collectors[c] = name
		l.add(effect.NewCollector(name, c.host, c.port, true))
	}
	return name
}

// refuse warns once of an endpoint.
func (l *loggers) refuse(endpoint, format string) {
	if !l.refused[endpoint] {
		l.refused[endpoint] = true
		l.warn(format, endpoint)
	}
}

// logger makes Envoy's logger of a backend. It is nil for one that cannot be: a collector without a host.
func (l *loggers) logger(b Backend, standard string, r effect.Placeholders) (*accesslogv3.AccessLog, error) {
	var config proto.Message
	var err error
	name := effect.FileLogger
	switch {
	case b.Type == BackendFile && b.File != nil:
		config, err = b.File.Format.file(b.File.Path, standard, r)
	case b.Type == BackendTCP && b.TCP != nil:
		config, err = b.TCP.pipe(l.env.Socket("kuma-al"), standard, r)
	case b.Type == BackendOpenTelemetry && b.OpenTelemetry != nil:
		host, port, ok := effect.SplitCollector(b.OpenTelemetry.Endpoint)
		if !ok {
			l.refuse(b.OpenTelemetry.Endpoint, "MeshAccessLog: nothing is sent to OpenTelemetry endpoint %q, which has no host")
			return nil, nil
		}
		if !loggable(b.OpenTelemetry.body(standard, r)) {
			l.refuse(b.OpenTelemetry.Endpoint, "MeshAccessLog: the body for OpenTelemetry endpoint %q has a value that is neither a text nor a list or "+
				"object of such, for which Envoy refuses the listener: write it as stringValue")
		}
		name, config = "envoy.access_loggers.open_telemetry", b.OpenTelemetry.config(l.cluster(collector{host, port}), standard, r, !l.env.Shown)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make logger %s: %w", b.Type, err)
	}
	return effect.NewLog(name, config)
}

// line is the text of a plain or absent format, with its end.
func (t *Format) line(standard string, r effect.Placeholders) string {
	text := standard
	if t != nil && t.Plain != nil && *t.Plain != "" {
		text = *t.Plain
	}
	return r.Replace(text) + "\n"
}

func (t *Format) isJSON() bool { return t != nil && t.Type == FormatJSON }

func (t *Format) omitsEmpty() bool { return t != nil && t.OmitEmptyValues != nil && *t.OmitEmptyValues }

// object is a JSON format. Keys and values are texts of JSON: Kuma puts them between quotes as they are.
func (t *Format) object(r effect.Placeholders) (*structpb.Struct, error) {
	members := map[string]any{}
	for _, m := range t.JSON {
		var one map[string]any
		if err := json.Unmarshal([]byte(r.Replace(`{"`+m.Key+`":"`+m.Value+`"}`)), &one); err != nil {
			return nil, fmt.Errorf("read member %q of the format: %w", m.Key, err)
		}
		maps.Copy(members, one)
	}
	return structpb.NewStruct(members)
}

func (t *Format) file(path, standard string, r effect.Placeholders) (*filev3.FileAccessLog, error) {
	format := effect.TextLog(t.line(standard, r))
	if t.isJSON() {
		object, err := t.object(r)
		if err != nil {
			return nil, err
		}
		format.Format = &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: object}
	}
	format.OmitEmptyValues = t.omitsEmpty()
	return effect.FileLog(path, format), nil
}

// pipe writes into the agent's pipe, for whom each line is an object that says where it goes (contract agent.md §4.6).
func (c *TCP) pipe(path, standard string, r effect.Placeholders) (*filev3.FileAccessLog, error) {
	message := structpb.NewStringValue(c.Format.line(standard, r))
	if c.Format.isJSON() {
		object, err := c.Format.object(r)
		if err != nil {
			return nil, err
		}
		message = structpb.NewStructValue(object)
	}
	return effect.FileLog(path, &corev3.SubstitutionFormatString{
		OmitEmptyValues: c.Format.omitsEmpty(),
		Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: map[string]*structpb.Value{
			"address": structpb.NewStringValue(c.Address), "message": message,
		}}},
	}), nil
}

// config makes the logger. Kuma fills nothing in in attributes, and Envoy refuses a listener with a name that it does not
// know: a proxy that is connected gets what was meant. Only what nobody runs stays as Kuma shows it.
func (o *OpenTelemetry) config(cluster, standard string, r effect.Placeholders, connected bool) *otelv3.OpenTelemetryAccessLogConfig {
	attributes := &otlpv1.KeyValueList{}
	for _, a := range o.Attributes {
		if connected {
			a.Value = r.Replace(a.Value)
		}
		attributes.Values = append(attributes.Values, &otlpv1.KeyValue{Key: a.Key, Value: text(a.Value)})
	}
	return &otelv3.OpenTelemetryAccessLogConfig{
		//nolint:staticcheck // the field that replaces it is unknown to Envoy 1.32
		CommonConfig: &grpcv3.CommonGrpcAccessLogConfig{
			LogName: "MeshAccessLog", TransportApiVersion: corev3.ApiVersion_V3,
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster},
			}},
		},
		Body: o.body(standard, r), Attributes: attributes,
	}
}

func text(s string) *otlpv1.AnyValue {
	return &otlpv1.AnyValue{Value: &otlpv1.AnyValue_StringValue{StringValue: s}}
}

// body is what the policy says, where that is a value of OTLP; an object that is none counts as nothing, and all other JSON
// is a text.
func (o *OpenTelemetry) body(standard string, r effect.Placeholders) *otlpv1.AnyValue {
	raw := bytes.TrimSpace(o.Body)
	if len(raw) == 0 || string(raw) == "null" {
		return text(r.Replace(standard))
	}
	v := &otlpv1.AnyValue{}
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, v) != nil {
		var compact bytes.Buffer
		if json.Compact(&compact, raw) != nil {
			return text(r.Replace(standard))
		}
		return text(r.Replace(compact.String()))
	}
	if v.Value == nil {
		return text(r.Replace(standard))
	}
	replaceIn(v, r)
	return v
}

// textual tells whether a value has nothing but texts, all that Envoy takes.
func textual(v *otlpv1.AnyValue) bool {
	switch value := v.GetValue().(type) {
	case *otlpv1.AnyValue_StringValue:
		return true
	case *otlpv1.AnyValue_ArrayValue:
		return !slices.ContainsFunc(value.ArrayValue.GetValues(), func(item *otlpv1.AnyValue) bool { return !textual(item) })
	case *otlpv1.AnyValue_KvlistValue:
		return !slices.ContainsFunc(value.KvlistValue.GetValues(), func(pair *otlpv1.KeyValue) bool { return !textual(pair.Value) })
	}
	return false
}

// replaceIn replaces in every text of a value.
func replaceIn(v *otlpv1.AnyValue, r effect.Placeholders) {
	switch value := v.GetValue().(type) {
	case *otlpv1.AnyValue_StringValue:
		value.StringValue = r.Replace(value.StringValue)
	case *otlpv1.AnyValue_ArrayValue:
		for _, item := range value.ArrayValue.GetValues() {
			replaceIn(item, r)
		}
	case *otlpv1.AnyValue_KvlistValue:
		for _, pair := range value.KvlistValue.GetValues() {
			pair.Key = r.Replace(pair.Key)
			replaceIn(pair.Value, r)
		}
	}
}

// loggable tells whether Envoy takes a value: it fills in texts only.
func loggable(v *otlpv1.AnyValue) bool {
	switch value := v.GetValue().(type) {
	case *otlpv1.AnyValue_StringValue:
		return true
	case *otlpv1.AnyValue_ArrayValue:
		return !slices.ContainsFunc(value.ArrayValue.GetValues(), func(item *otlpv1.AnyValue) bool { return !loggable(item) })
	case *otlpv1.AnyValue_KvlistValue:
		return !slices.ContainsFunc(value.KvlistValue.GetValues(), func(pair *otlpv1.KeyValue) bool { return !loggable(pair.Value) })
	}
	return false
}
