package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

// rollout is the answer of `_mtls`.
type rollout struct {
	Quiet    string                   `json:"quiet"`
	States   map[mtlsreport.State]int `json:"states"`
	Inbounds []rolloutInbound         `json:"inbounds"`
}

type rolloutInbound struct {
	Dataplane  string           `json:"dataplane"`
	Service    string           `json:"service"`
	Port       uint32           `json:"port"`
	Mode       mtlsreport.Mode  `json:"mode"`
	State      mtlsreport.State `json:"state"`
	Why        string           `json:"why"`
	MTLS       mtlsreport.Count `json:"mtls"`
	ForeignTLS mtlsreport.Count `json:"foreignTls"`
	Plaintext  mtlsreport.Count `json:"plaintext"`
	Refused    uint64           `json:"refused"`
	Peers      []rolloutPeer    `json:"peers"`
	Forgotten  uint64           `json:"forgotten"`
}

type rolloutPeer struct {
	mtlsreport.Peer
	Dataplane string `json:"dataplane"`
	Service   string `json:"service"`
	Namespace string `json:"namespace"`
}

func newInspectMTLSCommand(a *app) *cobra.Command {
	var output, service string
	var quiet time.Duration
	cmd := &cobra.Command{
		Use: "mtls", Short: "Show which inbounds take connections without mTLS, and who makes them",
		Long: "Show, for each inbound of a mesh, whether mTLS is enforced, whether it could be, or who would lose the service.\n" +
			"An inbound is ready when nobody has come without an identity of the mesh for the time of --quiet. Counts are of\n" +
			"connections and, behind the slash, of requests, since the agent started.",
		Example: "  kumactl inspect mtls\n" +
			"  kumactl inspect mtls --mesh default --service backend --quiet 24h",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			if quiet <= 0 {
				return usage(cmd, "--quiet must be a time such as 30m")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			query := url.Values{"quiet": {quiet.String()}}
			if service != "" {
				query.Set("service", service)
			}
			body, err := askMTLS(cmd.Context(), c, a.mesh, query)
			if err != nil {
				return fmt.Errorf("inspect mtls: %w", err)
			}
			if output != "table" {
				return a.show(output, body, nil)
			}
			var r rollout
			if err := json.Unmarshal(body, &r); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			return a.printRollout(&r)
		},
	}
	outputFlag(cmd, &output)
	cmd.Flags().StringVar(&service, "service", "", "only inbounds with this value of the tag kuma.io/service")
	cmd.Flags().DurationVar(&quiet, "quiet", mtlsreport.DefaultQuiet, "how long nobody may have come without an identity")
	return cmd
}

func (a *app) printRollout(r *rollout) error {
	inbounds := &table{header: []string{"SERVICE", "DATAPLANE", "PORT", "MODE", "STATE", "MTLS", "FOREIGN TLS", "PLAINTEXT", "REFUSED", "WHY"}}
	peers := &table{header: []string{"DATAPLANE", "PORT", "FROM", "WHO", "HOW", "COUNT", "OPEN", "FIRST SEEN AGO", "LAST SEEN AGO", "WHY"}}
	for _, in := range r.Inbounds {
		port := strconv.FormatUint(uint64(in.Port), 10)
		inbounds.rows = append(inbounds.rows, []string{
			orDash(in.Service), in.Dataplane, port, string(in.Mode), string(in.State),
			visits(in.MTLS), visits(in.ForeignTLS), visits(in.Plaintext), strconv.FormatUint(in.Refused, 10), in.Why,
		})
		for _, p := range in.Peers {
			peers.rows = append(peers.rows, []string{
				in.Dataplane, port, p.Address.String(), p.who(), string(p.Kind), visits(p.Count), strconv.Itoa(p.Open), ago(&p.FirstSeen), ago(&p.LastSeen), orDash(p.Reason),
			})
		}
		if in.Forgotten > 0 {
			peers.rows = append(peers.rows, []string{in.Dataplane, port, "…", fmt.Sprintf("%d more", in.Forgotten), "-", "-", "-", "-", "-", "-"})
		}
	}
	if err := inbounds.print(a.stdout); err != nil {
		return err
	}
	out := &printer{a.stdout}
	if len(peers.rows) > 0 {
		out.line("")
		out.line("Without an identity of the mesh:")
		if err := peers.print(a.stdout); err != nil {
			return err
		}
	}
	var states []string
	for _, s := range []mtlsreport.State{
		mtlsreport.StateWouldBreak, mtlsreport.StateUnknown, mtlsreport.StateObserving, mtlsreport.StateReady, mtlsreport.StateEnforced, mtlsreport.StateOff,
	} {
		if n := r.States[s]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, s))
		}
	}
	out.line("")
	out.line("%s: %s", printable(a.mesh), cmp.Or(strings.Join(states, ", "), "no inbounds"))
	return nil
}

func (p *rolloutPeer) who() string {
	switch {
	case p.Dataplane != "" && p.Service != "":
		return fmt.Sprintf("dataplane %s of %s", p.Dataplane, p.Service)
	case p.Dataplane != "":
		return "dataplane " + p.Dataplane
	case p.Address.IsLoopback():
		return "its own host"
	}
	return "nobody of the mesh"
}

// visits is connections, and requests where there were any.
func visits(c mtlsreport.Count) string {
	if c.Requests == 0 {
		return strconv.FormatUint(c.Connections, 10)
	}
	return fmt.Sprintf("%d/%d", c.Connections, c.Requests)
}

// requireReady is the flag of commands that may turn on strict mTLS.
type requireReady struct{ quiet string }

func (r *requireReady) flag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.quiet, "require-ready", "", "refuse to make an inbound strict that somebody came to without an identity in this time, or of which it is not known")
	cmd.Flags().Lookup("require-ready").NoOptDefVal = mtlsreport.DefaultQuiet.String()
}

// check asks that the control plane knows what the flag means: one that does not would do without it. A mesh that is not there
// yet has nobody to shut out.
func (r *requireReady) check(ctx context.Context, c *client.Client, meshes ...string) error {
	if r.quiet == "" {
		return nil
	}
	for _, mesh := range slices.Compact(slices.Sorted(slices.Values(meshes))) {
		if _, err := askMTLS(ctx, c, mesh, nil); err != nil && !client.IsNotFound(err) {
			return fmt.Errorf("--require-ready: %w", err)
		}
	}
	return nil
}

// askMTLS asks who comes without mTLS. The error of a mesh that is not there is client.IsNotFound, that of a control plane
// which does not tell is not.
func askMTLS(ctx context.Context, c *client.Client, mesh string, query url.Values) ([]byte, error) {
	body, err := c.Do(ctx, http.MethodGet, []string{"meshes", mesh, "_mtls"}, query, nil)
	if !client.IsNotFound(err) {
		return body, err
	}
	if _, err := c.Do(ctx, http.MethodGet, []string{"meshes", mesh}, nil, nil); err != nil {
		return nil, err
	}
	return nil, errors.New("this control plane does not tell who comes without mTLS: it is Kuma's, or an older one")
}

// query is empty without the flag.
func (r *requireReady) query() url.Values {
	if r.quiet == "" {
		return nil
	}
	return url.Values{"requireReady": {r.quiet}}
}
