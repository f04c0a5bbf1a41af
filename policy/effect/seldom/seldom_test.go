package seldom

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// TestMessages reads and writes messages that are not linked, one of them inside another.
func TestMessages(t *testing.T) {
	for name, text := range map[protoreflect.FullName]string{
		"envoy.extensions.filters.http.kill_request.v3.KillRequest": `{"probability":{"numerator":1,"denominator":"MILLION"},"direction":"RESPONSE"}`,
		"envoy.extensions.filters.http.geoip.v3.Geoip":              `{"xffConfig":{"xffNumTrustedHops":1},"provider":{"name":"p"}}`,
		"envoy.extensions.filters.http.on_demand.v3.OnDemand":       `{"odcds":{"timeout":"1s"}}`,
	} {
		if _, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil {
			t.Errorf("%s is linked: this test sees nothing of it", name)
		}
		mt, err := FindMessageByName(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m := mt.New().Interface()
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := protojson.Marshal(m)
		if err != nil || strings.ReplaceAll(string(got), " ", "") != text {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, text)
		}
		if err := protojson.Unmarshal([]byte(`{"nonsense":1}`), mt.New().Interface()); err == nil {
			t.Errorf("%s: a field that it does not have is taken", name)
		}
	}
	if _, err := FindMessageByName("a.b.C"); !errors.Is(err, protoregistry.NotFound) {
		t.Errorf("an unknown type gives %v", err)
	}
}

// TestVersion fails when the descriptions are of another version than the types that are linked.
func TestVersion(t *testing.T) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`go-control-plane/envoy (v\S+)`).FindSubmatch(text)
	if want == nil || z.Comment != string(want[1]) {
		t.Errorf("the descriptions are of %q, go.mod has %q: run go generate ./policy/effect/seldom", z.Comment, want)
	}
}
