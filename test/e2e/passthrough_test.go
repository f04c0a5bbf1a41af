//go:build linux

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// TestPassthrough reaches a server outside of the mesh, or does not, as a MeshPassthrough says: the example of its page,
// then matches by address, and the other modes.
func TestPassthrough(t *testing.T) {
	s := newBareScene(t, "kuma-pass")
	apply(t, s, allowAll)
	outside := newOutside(t, s)
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	address := outside.host.Addr.String()
	// reach asks the server by a name; status 0 is a connection that is cut.
	reach := func(t *testing.T, scheme, name string, want int) {
		t.Helper()
		port := outside.plain
		if scheme == "https" {
			port = outside.secure
		}
		url := fmt.Sprintf("%s://%s:%d/", scheme, name, port)
		args := []string{"--insecure", "--max-time", "5"}
		if name != address {
			args = append(args, "--resolve", fmt.Sprintf("%s:%d:%s", name, port, address))
		}
		await(t, fmt.Sprintf("%s to answer %d", url, want), func(c context.Context) error {
			for range 3 {
				got, body, err := web.Curl(c, url, args...)
				switch {
				case want == 0 && err == nil:
					return fmt.Errorf("got %d: %s", got, body)
				case want != 0 && err != nil:
					return err
				case got != want:
					return fmt.Errorf("got %d: %s", got, body)
				case want == 503 && !strings.Contains(body, "MeshPassthrough"):
					return fmt.Errorf("503 says %q", body)
				}
			}
			return nil
		})
	}
	matches := func(name string, list ...string) string {
		return "type: MeshPassthrough\nmesh: default\nname: " + name + "\nspec: {default: {passthroughMode: Matched, appendMatch: [" + strings.Join(list, ", ") + "]}}\n"
	}
	match := func(typ, value string, port int, protocol string) string {
		m := fmt.Sprintf("{type: %s, value: %q, protocol: %s", typ, value, protocol)
		if port != 0 {
			m += fmt.Sprintf(", port: %d", port)
		}
		return m + "}"
	}
	all := func(t *testing.T, want int) {
		t.Helper()
		reach(t, "http", "api.example.com", want)
		reach(t, "http", address, want)
		reach(t, "https", "shop.example.com", want)
	}

	all(t, 200)
	t.Run("domains", func(t *testing.T) {
		apply(t, s, guideExamples(t, "meshpassthrough")[0])
		reach(t, "http", "other.example.com", 503)
		reach(t, "http", "api.example.com", 200)
		reach(t, "http", address, 503)
		reach(t, "https", "shop.example.com", 200)
		reach(t, "https", "shop.example.org", 0)
	})
	few := func(list ...string) string { return matches("few", list...) }
	t.Run("an address", func(t *testing.T) {
		apply(t, s, few(match("IP", address, outside.plain, "tcp")))
		reach(t, "https", "shop.example.com", 0)
		reach(t, "http", "other.example.com", 200)
	})
	t.Run("a range", func(t *testing.T) {
		apply(t, s, few(match("CIDR", address+"/24", 0, "tls")))
		reach(t, "http", "api.example.com", 0)
		reach(t, "https", "shop.example.org", 200)
		apply(t, s, few(match("CIDR", "192.0.2.0/24", 0, "tls")))
		reach(t, "https", "shop.example.org", 0)
	})
	t.Run("http at an address", func(t *testing.T) {
		apply(t, s, few(match("IP", address, outside.plain, "http"), match("Domain", "any.example.com", 0, "tls")))
		reach(t, "http", "other.example.com", 200)
		reach(t, "https", "shop.example.com", 0)
		reach(t, "https", "any.example.com", 200)
	})
	t.Run("any port beside one", func(t *testing.T) {
		apply(t, s, few(match("Domain", "api.example.com", 0, "http"), match("Domain", "api.example.com", 50051, "grpc")))
		reach(t, "https", "any.example.com", 0)
		reach(t, "http", "other.example.com", 503)
		reach(t, "http", "api.example.com", 200)
	})
	t.Run("contradiction", func(t *testing.T) {
		apply(t, s, few(match("Domain", "api.example.com", outside.plain, "http"))+"---\n"+
			matches("lower", match("Domain", "other.example.com", outside.plain, "http2"), match("Domain", "shop.example.com", outside.secure, "tls")))
		reach(t, "https", "any.example.com", 0)
		reach(t, "https", "shop.example.com", 200)
		reach(t, "http", "api.example.com", 200)
		reach(t, "http", "other.example.com", 503)
		await(t, "a warning of the control plane", func(context.Context) error {
			if log := s.ControlPlane.Process.Log(); !strings.Contains(log, "MeshPassthrough: match other.example.com:8080 (http2) is left out") {
				return fmt.Errorf("the control plane says nothing of what it leaves out")
			}
			return nil
		})
		remove(t, s, "meshpassthrough", "lower")
	})
	t.Run("modes", func(t *testing.T) {
		apply(t, s, strings.Replace(few(), "Matched", "None", 1))
		all(t, 0)
		apply(t, s, strings.Replace(few(), "Matched", "All", 1))
		all(t, 200)
		apply(t, s, scene.Mesh+"networking: {outbound: {passthrough: false}}\n")
		all(t, 200)
		remove(t, s, "meshpassthrough", "few")
		all(t, 0)
		apply(t, s, scene.Mesh)
		all(t, 200)
	})
}
