package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

// profiles are what --profile knows.
var profiles = []string{"federation", "federation-with-policies", "all", "no-dataplanes"}

// ownSecrets belong to the machines of one control plane: in another they would break its TLS.
var ownSecrets = []string{"envoy-admin-ca", "inter-cp-ca"}

func newExportCommand(a *app) *cobra.Command {
	var profile, format string
	var admin bool
	cmd := &cobra.Command{
		Use: "export", Short: "Print resources so that another control plane can apply them",
		Long: "Print resources as YAML for `kumactl apply`:\n" +
			"  federation                meshes, and the secrets that keep identities and tokens valid\n" +
			"  federation-with-policies  those, and everything else that a zone gives to its global control plane\n" +
			"  all                       all resources; secrets only with --include-admin\n" +
			"  no-dataplanes             all but the Dataplanes\n\n" +
			"What the control plane computes (times, its own labels, insights) is left out. Meshes carry\n" +
			"skipCreatingInitialPolicies where their policies are exported, so that removed defaults do not come back. The\n" +
			"output of the federation profiles holds private keys: keep it like a password.",
		Example: "  kumactl export --profile federation-with-policies > federation.yaml\n" +
			"  kumactl export --profile all --format kubernetes > backup.yaml",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case !slices.Contains(profiles, profile):
				return usage(cmd, fmt.Sprintf("--profile %q is none of %s", profile, strings.Join(profiles, ", ")))
			case format != "universal" && format != "kubernetes":
				return usage(cmd, fmt.Sprintf("--format %q is none of universal, kubernetes", format))
			}
			return a.withClient(cmd.Context(), func(c *client.Client, kinds client.Kinds) error {
				e := exporter{app: a, client: c, profile: profile, kubernetes: format == "kubernetes"}
				for _, kind := range exported(kinds, profile, admin) {
					if err := e.kind(cmd.Context(), &kind); err != nil {
						return fmt.Errorf("export: %w; what was printed is not complete", err)
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&profile, "profile", "p", "federation", "what to export: one of "+strings.Join(profiles, "|"))
	cmd.Flags().StringVar(&format, "format", "universal", "form of the resources: one of universal|kubernetes")
	cmd.Flags().BoolVarP(&admin, "include-admin", "a", false, "with the profiles all and no-dataplanes, export secrets too")
	return cmd
}

// exported returns the kinds of a profile: meshes first, since the others are in them, then secrets.
func exported(kinds client.Kinds, profile string, admin bool) client.Kinds {
	secrets := []string{"GlobalSecret", "Secret"}
	var out client.Kinds
	for _, k := range kinds {
		keep := !k.ReadOnly && !strings.HasSuffix(k.Name, "Insight")
		switch profile {
		case "federation":
			keep = k.Name == "Mesh" || slices.Contains(secrets, k.Name)
		case "federation-with-policies":
			keep = k.Federation
		case "no-dataplanes":
			keep = keep && k.Name != "Dataplane"
			fallthrough
		default:
			keep = keep && (admin || !slices.Contains(secrets, k.Name))
		}
		if keep {
			out = append(out, k)
		}
	}
	rank := func(k client.Kind) int { return slices.Index([]string{"Secret", "GlobalSecret", "Mesh"}, k.Name) }
	slices.SortStableFunc(out, func(a, b client.Kind) int { return rank(b) - rank(a) })
	return out
}

type exporter struct {
	app        *app
	client     *client.Client
	profile    string
	kubernetes bool
}

func (e *exporter) federation() bool { return strings.HasPrefix(e.profile, "federation") }

// kind prints all resources of a kind, over all meshes.
func (e *exporter) kind(ctx context.Context, k *client.Kind) error {
	l, err := e.client.List(ctx, []string{k.Path}, nil, client.Page{})
	if err != nil {
		return fmt.Errorf("%s: %w", k.Path, err)
	}
	for _, item := range l.Items {
		var h head
		if err := json.Unmarshal(item, &h); err != nil {
			return fmt.Errorf("read %s: %w", k.Path, err)
		}
		if k.Name == "GlobalSecret" && e.federation() && slices.Contains(ownSecrets, h.Name) {
			continue
		}
		if e.kubernetes {
			if item, err = e.client.Do(ctx, http.MethodGet, k.URL(h.Mesh, h.Name), url.Values{"format": {"kubernetes"}}, nil); err != nil {
				return fmt.Errorf("%s %q: %w", k.Name, h.Name, err)
			}
		}
		if err := e.print(k, item); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) print(k *client.Kind, item []byte) error {
	var body map[string]any
	d := json.NewDecoder(bytes.NewReader(item))
	d.UseNumber()
	if err := d.Decode(&body); err != nil {
		return fmt.Errorf("read %s: %w", k.Path, err)
	}
	clean(body)
	if meta, ok := body["metadata"].(map[string]any); ok {
		clean(meta)
		delete(meta, "creationTimestamp")
		delete(meta, "resourceVersion")
		delete(meta, "uid")
	}
	if e.federation() {
		delete(body, "status") // addresses are given by whoever applies
	}
	spec := body
	if s, ok := body["spec"].(map[string]any); ok && e.kubernetes {
		spec = s
	}
	if k.Name == "Mesh" && e.profile != "federation" {
		spec["skipCreatingInitialPolicies"] = []string{"*"}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	out, err := yaml.JSONToYAML(text)
	if err != nil {
		return fmt.Errorf("print %s: %w", k.Path, err)
	}
	_, err = fmt.Fprintf(e.app.stdout, "---\n%s", out)
	return err
}

// clean takes out what the control plane that applies computes again. The mesh of a Kubernetes object is its label.
func clean(body map[string]any) {
	delete(body, "creationTime")
	delete(body, "modificationTime")
	labels, ok := body["labels"].(map[string]any)
	if !ok {
		return
	}
	for _, key := range computed {
		if key != "kuma.io/mesh" || body["type"] != nil {
			delete(labels, key)
		}
	}
	if len(labels) == 0 {
		delete(body, "labels")
	}
}
