package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

func newRotateCommand(a *app) *cobra.Command {
	return group("rotate", "Exchange what mTLS rests on while it is in use", newRotateAuthorityCommand(a))
}

// rotation is one run of the command. All of its state is in the Mesh, so that another run goes on where one ended.
type rotation struct {
	app     *app
	c       *client.Client
	to      string
	keyType string
	force   bool
	dry     bool
	wait    time.Duration
}

func newRotateAuthorityCommand(a *app) *cobra.Command {
	r := &rotation{app: a}
	cmd := &cobra.Command{
		Use: "authority", Short: "Exchange the certificate authority of a mesh without a failed request",
		Long: "Exchange the certificate authority of a mesh while its traffic goes on:\n" +
			"  1. add a builtin backend to the Mesh, which from then on has the field mtls.rotation\n" +
			"  2. wait until all proxies trust it, and let it sign\n" +
			"  3. wait until all proxies have a certificate of it, and remove the old one with its secrets\n" +
			"When it is interrupted, run it again: it goes on with what is left. With --to and the name of the old backend it turns back.\n" +
			"A provided backend is added to the Mesh by hand, together with mtls.rotation, and named with --to.",
		Example: "  kumactl rotate authority --mesh default --dry-run\n" +
			"  kumactl rotate authority --mesh default\n" +
			"  kumactl inspect authority --mesh default",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case r.wait < 0:
				return usage(cmd, "--timeout must not be negative")
			case !slices.Contains([]string{"", "RSA", "ECDSA"}, r.keyType):
				return usage(cmd, fmt.Sprintf("--key-type %q is none of RSA, ECDSA", r.keyType))
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			r.c = c
			ctx := cmd.Context()
			if r.wait > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, r.wait)
				defer cancel()
			}
			if err := r.run(ctx); err != nil {
				return fmt.Errorf("rotate authority of mesh %q: %w", a.mesh, err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.to, "to", "", "name of the backend that is to remain (default the old one's name with the next number, such as ca-2)")
	f.StringVar(&r.keyType, "key-type", "", "type of the new builtin backend's key: RSA or ECDSA (default that of the old one's conf)")
	f.BoolVar(&r.force, "force", false, "leave behind proxies that are not connected; what is still running of them loses its connections")
	f.BoolVar(&r.dry, "dry-run", false, "only show how far it is and what would be done next")
	f.DurationVar(&r.wait, "timeout", 0, "how long to wait for proxies in all; 0 means as long as it takes")
	return cmd
}

// step is what is to be done next.
type step struct {
	what string
	// change is made of the mTLS of the Mesh; nil when there is nothing left to do.
	change func(*mtlsConf) error
	done   string
}

// next tells the step of a rotation that is under way.
func (all *authorities) next() step {
	to := all.RotationTo
	if all.EnabledBackend != to {
		return step{
			what: "when all proxies trust " + to + ", it will sign", done: to + " signs",
			change: func(m *mtlsConf) error { m.set("enabledBackend", to); return nil },
		}
	}
	return step{
		what: "when all proxies have a certificate of " + to + ", it will be the only one", done: to + " is the only authority",
		change: func(m *mtlsConf) error { return m.keepOnly(to) },
	}
}

func (r *rotation) run(ctx context.Context) error {
	began := false
	told := ""
	for {
		_, all, err := r.app.authorities(ctx, r.c)
		if err != nil {
			return r.interrupted(ctx, told, err)
		}
		var next step
		switch {
		case all.EnabledBackend == "":
			return errors.New("mTLS is off: there is nothing to rotate")
		case all.RotationTo == "" && (began || r.to == all.EnabledBackend):
			return r.say("%s is the authority of mesh %s", all.EnabledBackend, r.app.mesh)
		case all.RotationTo == "":
			next = r.begin(all)
		case r.to != "" && r.to != all.RotationTo:
			to := r.to
			next = step{
				what: "turn to " + to, done: "the rotation goes to " + to,
				change: func(m *mtlsConf) error { m.set("rotation", map[string]any{"to": to}); return nil },
			}
		default:
			next = all.next()
			waiting := slices.DeleteFunc(slices.Clone(all.Pending), func(p pendingProxy) bool { return r.force && !p.Connected })
			if text := describePending(all, waiting); !r.dry && len(waiting) > 0 {
				if text != told {
					told = text
					if err := r.say("%s: %s", next.what, text); err != nil {
						return err
					}
				}
				if err := pause(ctx); err != nil {
					return r.interrupted(ctx, told, err)
				}
				continue
			}
		}
		if r.dry {
			if err := r.app.printAuthorities(all); err != nil {
				return err
			}
			return r.say("Next: %s", next.what)
		}
		if err := r.change(ctx, next.change); err != nil {
			return r.interrupted(ctx, told, err)
		}
		if err := r.say("%s", next.done); err != nil {
			return err
		}
		began = true
	}
}

func (r *rotation) say(format string, given ...any) error {
	_, err := fmt.Fprintln(r.app.stdout, printable(fmt.Sprintf(format, given...)))
	return err
}

// interrupted says what the wait was for, and that nothing is lost.
func (r *rotation) interrupted(ctx context.Context, told string, err error) error {
	if ctx.Err() == nil {
		return fmt.Errorf("%w; run it again to go on", err)
	}
	if told == "" {
		return fmt.Errorf("%w; run it again to go on", ctx.Err())
	}
	return fmt.Errorf("%w while waiting for proxies: %s; run it again to go on, with --force without those that are not connected", ctx.Err(), told)
}

// shownPending is how many proxies a line names.
const shownPending = 5

func describePending(all *authorities, list []pendingProxy) string {
	text := fmt.Sprintf("%d of %d are ready", all.Ready, all.Total)
	for _, p := range list[:min(len(list), shownPending)] {
		text += fmt.Sprintf("; %s", p)
	}
	if more := len(list) - shownPending; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// askAgain is how long the control plane is left alone between two questions.
const askAgain = 500 * time.Millisecond

func pause(ctx context.Context) error {
	t := time.NewTimer(askAgain)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *rotation) begin(all *authorities) step {
	to := r.to
	if to == "" {
		to = following(all.EnabledBackend)
	}
	return step{
		what: "add the builtin backend " + to + ", which all proxies are to trust", done: "added the builtin backend " + to,
		change: func(m *mtlsConf) error { return m.add(all.EnabledBackend, to, r.keyType) },
	}
}

var numbered = regexp.MustCompile(`^(.*-)([0-9]{1,9})$`)

// following is the name with the next number.
func following(name string) string {
	if m := numbered.FindStringSubmatch(name); m != nil {
		if n, err := strconv.Atoi(m[2]); err == nil {
			return m[1] + strconv.Itoa(n+1)
		}
	}
	return name + "-2"
}

// change edits the mTLS of the Mesh and leaves all else as it is.
func (r *rotation) change(ctx context.Context, edit func(*mtlsConf) error) error {
	path := []string{"meshes", r.app.mesh}
	body, err := r.c.Do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	var mesh map[string]any
	if err := json.Unmarshal(body, &mesh); err != nil {
		return fmt.Errorf("read the Mesh: %w", err)
	}
	conf, ok := mesh["mtls"].(map[string]any)
	if !ok {
		return errors.New("the Mesh has no mtls any more")
	}
	if err := edit(&mtlsConf{conf}); err != nil {
		return err
	}
	if body, err = json.Marshal(mesh); err != nil {
		return err
	}
	_, err = r.c.Do(ctx, http.MethodPut, path, nil, body)
	return err
}

// mtlsConf is the mtls of a Mesh with all fields, also those that this kumactl does not know.
type mtlsConf struct{ body map[string]any }

func (m *mtlsConf) set(field string, value any) { m.body[field] = value }

func (m *mtlsConf) backends() []any {
	list, _ := m.body["backends"].([]any)
	return list
}

func (m *mtlsConf) backend(name string) map[string]any {
	for _, b := range m.backends() {
		if b, ok := b.(map[string]any); ok && b["name"] == name {
			return b
		}
	}
	return nil
}

// add begins a rotation: the new backend is as the old one in all but its authority.
func (m *mtlsConf) add(from, to, keyType string) error {
	old := m.backend(from)
	if old == nil {
		return fmt.Errorf("the Mesh has no backend %q any more", from)
	}
	next := map[string]any{}
	for k, v := range old {
		next[k] = v
	}
	next["name"], next["type"] = to, "builtin"
	ca := map[string]any{}
	if conf, ok := old["conf"].(map[string]any); ok && old["type"] == "builtin" {
		if c, ok := conf["caCert"].(map[string]any); ok {
			for k, v := range c {
				ca[k] = v
			}
		}
	}
	if keyType != "" {
		ca["keyType"] = keyType
	}
	delete(next, "conf")
	if len(ca) > 0 {
		next["conf"] = map[string]any{"caCert": ca}
	}
	m.set("backends", append(m.backends(), next))
	m.set("rotation", map[string]any{"to": to})
	return nil
}

// keepOnly ends a rotation.
func (m *mtlsConf) keepOnly(name string) error {
	b := m.backend(name)
	if b == nil || m.body["enabledBackend"] != name {
		return fmt.Errorf("the Mesh is not on its way to %q any more", name)
	}
	m.set("backends", []any{b})
	delete(m.body, "rotation")
	return nil
}
