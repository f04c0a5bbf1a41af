//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

const url = "http://backend.svc.mesh.local:8080"

// prove sends one request as the application would, and then asks every part on the way what it did.
func (d *demo) prove(ctx context.Context, web *scene.Workload) error {
	fmt.Fprintf(d.out, "\n$ ip netns exec %s curl %s\n", web.Host.Namespace, url)
	seen, err := d.request(ctx, web)
	if err != nil {
		return err
	}
	path, err := trace(ctx, web, "backend.svc.mesh.local", scene.AppPort)
	if err != nil {
		return err
	}
	d.step("name", "%s", path.name)
	d.step("VIP", "%s, from the agent's resolver", path.vip)
	d.step("listener", "%s", path.listener)
	d.step("cluster", "%s", path.cluster)
	d.step("endpoints", "%s", strings.Join(path.endpoints, ", "))
	d.step("answered by", "%s", seen.Instance)
	d.step("client is", "%s", field(seen.ClientCert, "URI"))
	d.step("server is", "%s", field(seen.ClientCert, "By"))
	d.step("encrypted by", "%s", path.tls)
	return proved(seen, path)
}

// proved says what is missing from the proof.
func proved(seen scene.Seen, p path) error {
	var missing []error
	for what, ok := range map[string]bool{
		"the answer is from a backend":              strings.HasPrefix(seen.Instance, "backend-"),
		"the client's identity is web":              slices.Contains(fields(seen.ClientCert, "URI"), "spiffe://default/web"),
		"the server's identity is backend":          slices.Contains(fields(seen.ClientCert, "By"), "spiffe://default/backend"),
		"the connection is TLS 1.2 or 1.3":          p.tls == "TLSv1.2" || p.tls == "TLSv1.3",
		"the VIP is from 241.0.0.0/8":               strings.HasPrefix(p.vip, "241."),
		"both instances are among the endpoints":    len(p.endpoints) == 2,
		"the listener is the one of the VIP":        p.listener == fmt.Sprintf("outbound:%s:%d", p.vip, scene.AppPort),
		"the cluster is the one of the MeshService": p.cluster != "",
	} {
		if !ok {
			missing = append(missing, fmt.Errorf("not proved: %s", what))
		}
	}
	return errors.Join(missing...)
}

func (d *demo) request(ctx context.Context, web *scene.Workload) (scene.Seen, error) {
	status, body, err := web.Curl(ctx, url)
	if err != nil {
		return scene.Seen{}, err
	}
	if status != http.StatusOK {
		return scene.Seen{}, fmt.Errorf("%s answers %d: %s", url, status, body)
	}
	var seen scene.Seen
	if err := json.Unmarshal([]byte(body), &seen); err != nil {
		return scene.Seen{}, fmt.Errorf("%s answers %q: %w", url, body, err)
	}
	fmt.Fprintf(d.out, "%s\n\n", strings.TrimSpace(body))
	return seen, nil
}

// field returns the first value of key in an x-forwarded-client-cert header.
func field(header, key string) string {
	if all := fields(header, key); len(all) > 0 {
		return all[0]
	}
	return "nobody: no client certificate"
}

func fields(header, key string) []string {
	var out []string
	for part := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == ';' || r == ',' }) {
		if v, ok := strings.CutPrefix(part, key+"="); ok {
			out = append(out, v)
		}
	}
	return out
}

// suggest prints what to try next; each line works in another terminal.
func (d *demo) suggest() {
	file := filepath.Join(d.scene.Dir(), "permission.yaml")
	if err := os.WriteFile(file, []byte(scene.Permission), 0o644); err != nil {
		d.step("note", "cannot write %s: %v", file, err)
	}
	cp, web := "ip netns exec "+prefix+"-cp ", "ip netns exec "+prefix+"-web "
	kumactl, agent := d.scene.Path("kumactl"), d.scene.Path("kuma-dp")
	fmt.Fprintf(d.out, "\nTry next, as root in another terminal:\n")
	for _, line := range [][2]string{
		{"call it again", web + "curl " + url},
		{"deny the traffic", cp + kumactl + " delete meshtrafficpermission web-to-backend"},
		{"see the 403", web + "curl -i " + url},
		{"allow it again", cp + kumactl + " apply -f " + file},
		{"see the identity", web + agent + " debug identity --work-dir " + filepath.Join(d.scene.Dir(), "web")},
		{"see the services", cp + kumactl + " get meshservices -o yaml"},
		{"stop", "Ctrl-C here"},
	} {
		fmt.Fprintf(d.out, "  %-18s%s\n", line[0], line[1])
	}
}
