package agent

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// maxToken bounds a token, in bytes.
const maxToken = 64 << 10

const tokenHelp = "dataplane token is invalid, in Kubernetes you must mount a serviceAccount token, in universal you must start your proxy with a generated token.: "

// readToken returns the content of a token file without the space around it. Errors name the file, never the token.
func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read token file %s: %w", path, err)
	}
	token := strings.TrimSpace(string(b))
	switch {
	case len(b) > maxToken:
		return "", fmt.Errorf("token under file %s has more than %d bytes", path, maxToken)
	case token == "":
		return "", fmt.Errorf("token under file %s is empty", path)
	case strings.ContainsAny(token, "\x00\r\n"):
		return "", errors.New("Token shouldn't contain line breaks within the token, only at the start or end")
	}
	return token, nil
}

// source returns what reads the token for each new stream, nil when there is none.
func (r *Runtime) source() func() (string, error) {
	switch {
	case r.Token != "":
		token := strings.TrimSpace(r.Token)
		return func() (string, error) { return token, nil }
	case r.TokenPath != "":
		return func() (string, error) { return readToken(r.TokenPath) }
	}
	return nil
}

// claims are those of a dataplane or zone token (contract agent.md §2.1). None of them are verified here.
type claims struct {
	Name, Mesh string
	Tags       map[string][]string
	Scope      []string
	Exp        float64 `json:"exp"`
	Nbf        float64 `json:"nbf"`
}

// decodeToken reads a JWT without checking its signature: that is the control plane's to do.
func decodeToken(token string) (*claims, error) {
	bad := func(why string) (*claims, error) {
		return nil, fmt.Errorf("not valid JWT token. Can't parse it.: %s", why)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return bad("it must have three parts separated by dots")
	}
	var header struct{ Alg string }
	if !decodePart(parts[0], &header) || header.Alg == "" {
		return bad("its first part must be a JSON object with alg")
	}
	var c claims
	if !decodePart(parts[1], &c) {
		return bad("its second part must be a JSON object of claims")
	}
	return &c, nil
}

func decodePart(part string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	return err == nil && json.Unmarshal(b, into) == nil
}

// checkToken refuses at once what the control plane would refuse for ever. A time out of bounds is only a warning: the
// file may be about to be replaced, or this clock be wrong. The resource is the Dataplane as JSON, "" when it is not known.
func (c *Config) checkToken(now time.Time, resource string) (warning string, err error) {
	read := c.DataplaneRuntime.source()
	if read == nil {
		return "", nil
	}
	token, err := read()
	if err != nil {
		return "", configError{tokenHelp + err.Error()}
	}
	got, err := decodeToken(token)
	if err != nil {
		return "", configError{tokenHelp + err.Error()}
	}
	for _, m := range []struct{ what, token, proxy string }{
		{"name", got.Name, c.Dataplane.Name}, {"mesh", got.Mesh, c.Dataplane.Mesh},
	} {
		if m.token != "" && m.token != m.proxy {
			return "", configError{fmt.Sprintf("dataplane token is for %s %q, this proxy has %s %q: generate one for this proxy with kumactl generate dataplane-token",
				m.what, m.token, m.what, m.proxy)}
		}
	}
	if err := got.allow(resource); err != nil {
		return "", err
	}
	if exp := unixTime(got.Exp); got.Exp != 0 && now.After(exp) {
		return fmt.Sprintf("it expired at %s and it is now %s", exp.Format(time.RFC3339), now.UTC().Format(time.RFC3339)), nil
	}
	if nbf := unixTime(got.Nbf); got.Nbf != 0 && now.Before(nbf) {
		return fmt.Sprintf("it is not valid before %s and it is now %s: check the clocks", nbf.Format(time.RFC3339), now.UTC().Format(time.RFC3339)), nil
	}
	return "", nil
}

// allow compares the token's tags with those of all inbounds and the gateway of a Dataplane: it needs each of them, with no
// value but those that the token allows (contract agent.md §5). What cannot be read is left to the control plane to refuse.
func (c *claims) allow(resource string) error {
	type tagged struct{ Tags map[string]string }
	var dp struct {
		Type       string
		Networking struct {
			Inbound []tagged
			Gateway tagged
		}
	}
	if len(c.Tags) == 0 || json.Unmarshal([]byte(resource), &dp) != nil || dp.Type != "Dataplane" {
		return nil //nolint:nilerr // the control plane says what it cannot read
	}
	have := map[string][]string{}
	for _, t := range append(dp.Networking.Inbound, dp.Networking.Gateway) {
		for tag, value := range t.Tags {
			have[tag] = append(have[tag], value)
		}
	}
	const advice = ": change the Dataplane's tags, or generate a token for them with kumactl generate dataplane-token"
	for _, tag := range slices.Sorted(maps.Keys(c.Tags)) {
		if len(have[tag]) == 0 {
			return configError{fmt.Sprintf("dataplane has no tag %q required by the token", tag) + advice}
		}
		for _, value := range have[tag] {
			if !slices.Contains(c.Tags[tag], value) {
				return configError{fmt.Sprintf("dataplane contains tag %q with value %q which is not allowed with this token. Allowed values in token are %q",
					tag, value, strings.Join(c.Tags[tag], ", ")) + advice}
			}
		}
	}
	return nil
}

func unixTime(seconds float64) time.Time {
	return time.Unix(int64(min(max(seconds, -1<<40), 1<<40)), 0).UTC()
}
