package xds

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// scene is a world of resources as the reference had it, with what its control plane would have computed.
type scene struct {
	zone      string
	resources []*resource.Resource
}

// add decodes documents; one with the key of an earlier one replaces it. unknown kinds are skipped and named.
func (s *scene) add(t testing.TB, documents []byte) (skipped []string) {
	t.Helper()
	reg := resource.NewRegistry(all.Descriptors()...)
	for _, doc := range resource.SplitYAML(documents) {
		r, err := reg.DecodeYAML(doc)
		if err != nil {
			skipped = append(skipped, err.Error())
			continue
		}
		if faults := resource.Validate(r); len(faults) > 0 {
			skipped = append(skipped, fmt.Sprintf("%s: %v", r.Key, faults))
			continue
		}
		if r.Kind == resource.KindDataplane {
			resource.SetDefaults(r, resource.ZoneInfo{Zone: s.zone})
		}
		i := slices.IndexFunc(s.resources, func(o *resource.Resource) bool { return o.Key == r.Key })
		switch { // the labels of an update are taken as they are
		case i < 0:
			resource.ComputeLabels(r, resource.ZoneInfo{Zone: s.zone})
		case r.Labels == nil:
			r.Labels = s.resources[i].Labels
		}
		if i >= 0 {
			s.resources[i] = r
		} else {
			r.CreationTime = time.Unix(int64(len(s.resources)), 0) // one after the other
			s.resources = append(s.resources, r)
		}
	}
	return skipped
}

// world computes VIPs, which are placeholders, and identities, and builds the topology.
func (s *scene) world(t testing.TB, vip func(i int, name string) string, tls map[string]string) *topology.World {
	t.Helper()
	s.generateServices()
	for i, r := range s.services() {
		spec := resource.SpecOf[*resource.MeshService](r)
		if r.Labels[resource.LabelOrigin] != resource.OriginGlobal { // those of other zones came with the service
			spec.Identities = nil
			for _, id := range s.identities(spec) {
				spec.Identities = append(spec.Identities, resource.ServiceIdentity{Type: resource.IdentityServiceTag, Value: id})
			}
		}
		status, _ := r.Status.(*resource.MeshServiceStatus)
		if status == nil {
			status = &resource.MeshServiceStatus{}
			r.Status = status
		}
		if status.VIPs == nil {
			status.VIPs = []resource.VIP{{IP: vip(i, r.Name)}}
		}
		if tls[r.Name] != "" {
			status.TLS = &resource.TLSStatus{Status: tls[r.Name]}
		}
	}
	for i, r := range s.resources {
		switch r.Kind {
		case resource.KindMeshMultiZoneService:
			if r.Status == nil {
				r.Status = &resource.MeshMultiZoneServiceStatus{VIPs: []resource.VIP{{IP: vip(1000+i, string(r.Kind)+"/"+r.Name)}}}
			}
		case resource.KindMeshExternalService:
			if r.Status == nil {
				r.Status = &resource.MeshExternalServiceStatus{VIP: &resource.VIP{IP: vip(1000+i, string(r.Kind)+"/"+r.Name)}}
			}
		}
	}
	return topology.Build(s.zone, s.resources...)
}

// generateServices makes a MeshService for every kuma.io/service that has none (contract policies.md §2.1).
func (s *scene) generateServices() {
	for _, r := range slices.Clone(s.resources) {
		dp, ok := r.Spec.(*resource.Dataplane)
		if !ok || s.mesh(r.Mesh).ServicesMode() == resource.MeshServicesDisabled {
			continue
		}
		byService := map[string][]resource.ServicePort{}
		for _, in := range dp.Networking.Inbound {
			service := in.Tags[resource.TagService]
			byService[service] = append(byService[service], resource.ServicePort{
				Name: cmp.Or(in.Name, fmt.Sprint(in.Port)), Port: in.Port, TargetPort: resource.IntOrString{Int: in.Port},
				AppProtocol: cmp.Or(in.Tags[resource.TagProtocol], "tcp"),
			})
		}
		for service, ports := range byService {
			key := resource.Key{Kind: resource.KindMeshService, Mesh: r.Mesh, Name: service}
			if service == "" || slices.ContainsFunc(s.resources, func(o *resource.Resource) bool { return o.Key == key }) {
				continue
			}
			s.resources = append(s.resources, &resource.Resource{
				Meta: resource.Meta{Key: key, Labels: map[string]string{
					resource.LabelMesh: r.Mesh, resource.LabelDisplayName: service, resource.LabelOrigin: resource.OriginZone,
				}},
				Spec: &resource.MeshService{
					Selector: &resource.ServiceSelector{DataplaneTags: map[string]string{resource.TagService: service}}, Ports: ports,
				},
			})
		}
	}
}

func (s *scene) mesh(name string) *resource.Mesh {
	for _, r := range s.resources {
		if m, ok := r.Spec.(*resource.Mesh); ok && r.Name == name {
			return m
		}
	}
	return &resource.Mesh{}
}

func (s *scene) services() []*resource.Resource {
	var out []*resource.Resource
	for _, r := range s.resources {
		if r.Kind == resource.KindMeshService {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *resource.Resource) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (s *scene) identities(spec *resource.MeshService) []string {
	var out []string
	for _, r := range s.resources {
		dp, ok := r.Spec.(*resource.Dataplane)
		if !ok || spec.Selector == nil {
			continue
		}
		matches := slices.ContainsFunc(dp.Networking.Inbound, func(in *resource.Inbound) bool {
			for k, v := range spec.Selector.DataplaneTags {
				if in.Tags[k] != v {
					return false
				}
			}
			return len(spec.Selector.DataplaneTags) > 0
		})
		for _, in := range dp.Networking.Inbound {
			if v := in.Tags[resource.TagService]; matches && v != "" && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	slices.Sort(out)
	return out
}

// generate makes the snapshot of one proxy as `_config` shows it, or with metadata.
func generate(t testing.TB, g *Generator, w *topology.World, mesh, name string, meta Meta, zone string) *Snapshot {
	t.Helper()
	m := w.Meshes[mesh]
	rules, err := newRulebook(all.Kinds(), zone).rules(w, m, m.Dataplane(name), false)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := g.Generate(Input{
		Mesh: m, Dataplane: m.Dataplane(name), Zone: zone, Meta: meta, Shown: meta.WorkDir == "", Rules: rules,
		TrustBundle: []byte("CA"), Identity: &KeyPair{Cert: []byte("CERT"), Key: []byte("KEY")},
		Admin: &AdminTLS{KeyPair: KeyPair{Cert: []byte("CERT"), Key: []byte("KEY")}, ClientCA: []byte("CA")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// shape is a snapshot as JSON values: the last word of the type, the name, the resource.
type shape map[string]map[string]any

func shapeOf(t testing.TB, s *Snapshot) shape {
	t.Helper()
	out := shape{}
	for _, typeURL := range s.Types() {
		short := typeURL[strings.LastIndexByte(typeURL, '.')+1:]
		out[short] = map[string]any{}
		for name, r := range s.Resources(typeURL) {
			out[short][name] = jsonOf(t, r)
		}
	}
	return out
}

func jsonOf(t testing.TB, r *Resource) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(checkShown(t, r), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// byLibrary is what the library for the messages says of a resource, as an answer shows it.
func byLibrary(r *Resource) (json.RawMessage, error) {
	m, err := r.Any.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	b, err := protojson.MarshalOptions{Resolver: effect.Types{}}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = json.Indent(&text, b, shownAt, " ")
	return text.Bytes(), err
}

// checkShown returns how a resource is shown.
func checkShown(t testing.TB, r *Resource) json.RawMessage {
	t.Helper()
	want, err := byLibrary(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.JSON(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is shown as %s (%v), want %s", r.Name, got, err, want)
	}
	return want
}

func readJSON(t testing.TB, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// replaceVIPs puts placeholders for addresses, also inside names.
func replaceVIPs(t testing.TB, s shape, names map[string]string) shape {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for ip, name := range names {
		b = bytes.ReplaceAll(b, []byte(ip+`"`), []byte(name+`"`))
		b = bytes.ReplaceAll(b, []byte(ip+":"), []byte(name+":"))
	}
	out := shape{}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// effectsDir can name a larger corpus in the same form.
var effectsDir = flag.String("effects", "testdata/effects", "directory of captured worlds and cases")

// refusedCases are those in which the reference sends what an Envoy refuses, and what that says: it has the last word, and
// the author of the policy has been told.
var refusedCases = map[string][]string{
	"meshfaultinjection/22-zero-and-empty-delay": {zeroDelay},
	"meshratelimit/03-http-headers":              {unknownStatus},
	"meshratelimit/14-merge":                     {unknownStatus},
	"meshretry/10-backoff-max":                   {noBaseInterval},
}

// caseOf names a case by its folder.
func caseOf(dir string) string { return filepath.Base(filepath.Dir(dir)) + "/" + filepath.Base(dir) }

// TestEffects compares the configuration of proxies with captures of the reference: the worlds whole, the cases where
// they differ from their world.
func TestEffects(t *testing.T) {
	root := *effectsDir
	worlds, err := filepath.Glob(filepath.Join(root, "worlds", "*", "world.yaml"))
	if err != nil || len(worlds) == 0 {
		t.Fatalf("no worlds in %s: %v", root, err)
	}
	bases := map[string]map[string]shape{}
	for _, file := range worlds {
		dir := filepath.Dir(file)
		base := readConfigs(t, dir)
		bases[filepath.Base(dir)] = base
		t.Run("world/"+filepath.Base(dir), func(t *testing.T) { checkWorld(t, dir, nil, base) })
	}
	inputs, err := filepath.Glob(filepath.Join(root, "*", "*", "input.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range inputs {
		dir := filepath.Dir(file)
		t.Run(caseOf(dir), func(t *testing.T) {
			input, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := worldOf(string(input))
			world := filepath.Join(root, "worlds", name)
			expectRefused(t, refusedCases[caseOf(dir)]...)
			base := map[string]shape{}
			for dp, s := range bases[name] {
				base[dp] = shape{}
				for typ, resources := range s {
					base[dp][typ] = maps.Clone(resources)
				}
			}
			var changed map[string]map[string]map[string]any
			readJSON(t, filepath.Join(dir, "changed.json"), &changed)
			for dp, types := range changed {
				if base[dp] == nil {
					base[dp] = shape{}
				}
				if types["error"] != nil {
					// The reference has no configuration here; ours leaves out what contradicts.
					base[dp] = nil
					continue
				}
				for typ, resources := range types {
					for n, r := range resources {
						if base[dp][typ] == nil {
							base[dp][typ] = map[string]any{}
						}
						if r == nil {
							delete(base[dp][typ], n)
						} else {
							base[dp][typ][n] = r
						}
					}
				}
			}
			checkWorld(t, world, input, base)
		})
	}
}

func worldOf(input string) string {
	for line := range strings.Lines(input) {
		if w, ok := strings.CutPrefix(line, "# world: "); ok {
			return strings.TrimSpace(strings.FieldsFunc(w, func(r rune) bool { return r == ' ' || r == ',' || r == ';' || r == '\n' })[0])
		}
	}
	return strings.TrimSpace(strings.TrimPrefix(strings.SplitN(input, "\n", 2)[0], "#"))
}

func readConfigs(t *testing.T, dir string) map[string]shape {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.config.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]shape{}
	for _, f := range files {
		s := shape{}
		readJSON(t, f, &s)
		out[strings.TrimSuffix(filepath.Base(f), ".config.json")] = s
	}
	return out
}

func checkWorld(t *testing.T, dir string, input []byte, want map[string]shape) {
	t.Helper()
	s := &scene{zone: "zone-a"}
	world, err := os.ReadFile(filepath.Join(dir, "world.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	skipped := append(s.add(t, world), s.add(t, input)...)
	for _, why := range skipped {
		// ProxyTemplate is the one kind that is none of ours; the reference does not show it either (contract
		// effects-security.md §2). What is not valid the reference has refused too.
		if strings.Contains(why, "unknown resource type") && !strings.Contains(why, "ProxyTemplate") {
			t.Error(why)
		}
	}
	if m := s.mesh("m"); strings.HasSuffix(dir, "defaults") && len(m.SkipCreatingInitialPolicies) == 0 {
		s.resources = append(s.resources, all.DefaultPolicies("m", nil)...)
	}
	vips, ready := map[string]string{}, map[string]string{}
	if strings.HasSuffix(dir, "mtls") { // captured with the services of the world ready, not those of cases
		ready["orders"] = resource.TLSReady
	}
	s.addLegacyVIPs(t, vips)
	w := s.world(t, func(i int, name string) string {
		ip := fmt.Sprintf("241.9.%d.%d", 8+i/1000, i%1000+100)
		if !strings.Contains(name, "/") {
			name = "MeshService/" + name
		}
		vips[ip] = "VIP(" + name + ")"
		return ip
	}, ready)
	g := NewGenerator(all.Effects())
	for dp, expected := range want {
		for typ := range expected {
			if len(expected[typ]) == 0 {
				delete(expected, typ)
			}
		}
		if w.Meshes["m"].Dataplane(dp) == nil {
			t.Errorf("no dataplane %s; skipped %v", dp, skipped)
			continue
		}
		snap := generate(t, g, w, "m", dp, Meta{}, "zone-a")
		got := replaceVIPs(t, shapeOf(t, snap), vips)
		if expected != nil && !reflect.DeepEqual(expected, got) {
			t.Errorf("%s: configuration differs (-captured +ours), skipped %v:\n%.3000s", dp, skipped, gocmp.Diff(expected, got))
		}
		// The second time everything comes from the cache.
		again := generate(t, g, w, "m", dp, Meta{}, "zone-a")
		for _, typeURL := range snap.Types() {
			if a, b := snap.get(typeURL), again.get(typeURL); a.version != b.version {
				t.Errorf("%s: %s made from the cache differs", dp, typeURL)
			}
		}
	}
}
