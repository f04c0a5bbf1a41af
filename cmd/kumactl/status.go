package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

// The answers of `_status`, which only our control plane has.
type (
	proxyStatus struct {
		Connected bool
		Refusals  []refusal
		Failure   string
		Suspects  []head
		Warnings  []struct {
			Message  string
			Policies []head
		}
	}
	refusal struct {
		Type      string
		Resources []string
		Reason    string
		Since     time.Time
		Policies  []head
	}
	policyStatus struct {
		Connected, Unexamined int
		Items                 []struct {
			Dataplane head
			Refusals  []refusal
			Failure   string
		}
		Warnings []struct {
			Message    string
			Dataplanes int
			First      string
		}
		Advice []string
	}
)

// maxNamed bounds the resources of a refusal that are named.
const maxNamed = 5

// what names the refused resources.
func (r *refusal) what() string {
	names := r.Resources
	more := ""
	if len(names) > maxNamed {
		names, more = names[:maxNamed], fmt.Sprintf(" or %d more", len(r.Resources)-maxNamed)
	}
	return r.Type[strings.LastIndexByte(r.Type, '.')+1:] + " " + strings.Join(names, ", ") + more + " for " + ago(&r.Since)
}

// because names policies.
func because(policies []head) string {
	var names []string
	for _, p := range policies {
		names = append(names, p.Type+" "+p.Name)
	}
	return "because of " + strings.Join(names, ", ")
}

// printStatus prints how one proxy gets on.
func (a *app) printStatus(title string, body []byte) error {
	var s proxyStatus
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	p := rulePrinter{w: a.stdout}
	switch {
	case !s.Connected:
		p.line(0, "%s is not connected", title)
	case len(s.Refusals) == 0 && s.Failure == "":
		p.line(0, "%s is connected, its Envoy has taken all of its configuration", title)
	default:
		p.line(0, "%s is connected", title)
	}
	if s.Failure != "" {
		p.line(0, "")
		p.line(0, "no new configuration can be made, it keeps what it has")
		p.text(1, s.Failure, s.Suspects)
	}
	for _, r := range s.Refusals {
		p.line(0, "")
		p.line(0, "Envoy refuses %s and keeps what it had", r.what())
		p.text(1, r.Reason, r.Policies)
	}
	if len(s.Warnings) > 0 {
		p.line(0, "")
	}
	for _, w := range s.Warnings {
		p.line(0, "warning: %s", command.OneLine(w.Message))
	}
	return p.err
}

// text prints what somebody else wrote, and the policies behind it.
func (p *rulePrinter) text(level int, text string, policies []head) {
	for line := range strings.Lines(text) {
		p.line(level, "%s", strings.TrimRight(line, "\r\n"))
	}
	if len(policies) > 0 {
		p.line(level, "%s", because(policies))
	}
}

// policyStatus asks how the proxies of a policy get on. A control plane that does not know the question has no answer, nil;
// nor has one that does not let the user ask, which is said.
func (a *app) policyStatus(ctx context.Context, c *client.Client, policy []string) (body []byte, denied string, err error) {
	body, err = c.Do(ctx, http.MethodGet, append(slices.Clone(policy), "_status"), nil, nil)
	if e, ok := errors.AsType[*client.Error](err); ok {
		switch e.Status {
		case http.StatusNotFound:
			return nil, "", nil
		case http.StatusForbidden:
			return nil, e.Error(), nil
		}
	}
	return body, "", err
}

// printPolicyStatus prints what is wrong with a policy, nothing when that is nothing.
func (a *app) printPolicyStatus(body []byte) error {
	var s policyStatus
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	p := rulePrinter{w: a.stdout}
	if len(s.Items) > 0 {
		p.line(0, "")
		p.line(0, "Refused because of it:")
		p.line(0, "")
	}
	for _, item := range s.Items {
		if item.Failure != "" {
			p.line(1, "%s has no new configuration and keeps what it has", item.Dataplane.Name)
			p.text(2, item.Failure, nil)
		}
		for _, r := range item.Refusals {
			p.line(1, "Envoy of %s refuses %s and keeps what it had", item.Dataplane.Name, r.what())
			p.text(2, r.Reason, nil)
		}
	}
	if s.Unexamined > 0 {
		p.line(0, "")
		p.line(0, "Of %d more proxies with refusals or warnings it is not known whether they are because of it.", s.Unexamined)
	}
	if len(s.Warnings)+len(s.Advice) > 0 {
		p.line(0, "")
		p.line(0, "Warnings:")
		p.line(0, "")
	}
	for _, w := range s.Warnings {
		p.line(1, "on %d of %s, such as %s: %s", w.Dataplanes, counted(s.Connected, "connected proxy", "connected proxies"), w.First, command.OneLine(w.Message))
	}
	for _, text := range s.Advice {
		p.line(1, "%s", command.OneLine(text))
	}
	return p.err
}

// withStatus adds a status to a list, as its field of that name.
func withStatus(list, status []byte) ([]byte, error) {
	if status == nil {
		return list, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(list, &fields); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	fields["status"] = status
	return json.Marshal(fields)
}
