package effect

import "testing"

func TestSplitCollector(t *testing.T) {
	for _, tt := range []struct {
		endpoint, host string
		port           uint32
		ok             bool
	}{
		{"otel.example.net", "otel.example.net", 4317, true},
		{"otel.example.net:4318", "otel.example.net", 4318, true},
		{"10.0.0.1:4318", "10.0.0.1", 4318, true},
		{"otel.example.net:4317/x", "otel.example.net", 0, true},
		{"otel.example.net:", "otel.example.net", 0, true},
		{"otel.example.net:70000", "otel.example.net", 0, true},
		{"fd00::1", "fd00::1", 4317, true},
		{"[fd00::1]", "fd00::1", 4317, true},
		{"[fd00::1]:4318", "fd00::1", 4318, true},
		{":4317", "", 4317, false},
		{"[]:4317", "", 4317, false},
		{"", "", 4317, false},
	} {
		host, port, ok := SplitCollector(tt.endpoint)
		if host != tt.host || port != tt.port || ok != tt.ok {
			t.Errorf("%q: got %q, %d, %t, want %q, %d, %t", tt.endpoint, host, port, ok, tt.host, tt.port, tt.ok)
		}
	}
}

func TestSocketPath(t *testing.T) {
	long := "/run/a-very-long-folder-of-a-user-who-likes-long-names/and-another-one-below-it-just-to-be-sure"
	for want, env := range map[string]Env{
		"kuma-al-d-m.sock":                 {Dataplane: "d", Mesh: "m"},
		"/run/kuma-al-d-m.sock":            {Dataplane: "d", Mesh: "m", WorkDir: "/run"},
		(long + "/kuma-al")[:98] + ".sock": {Dataplane: "d", Mesh: "m", WorkDir: long},
	} {
		if got := env.Socket("kuma-al"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
