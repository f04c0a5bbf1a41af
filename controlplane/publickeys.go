package controlplane

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
)

// PublicKey verifies tokens that are issued without the control plane (contract controlplane.md §2.6).
type PublicKey struct {
	// KID is the key id of the tokens.
	KID string `json:"kid"`
	// Mesh is the mesh of dataplane tokens.
	Mesh string `json:"mesh,omitempty"`
	// Key is the PEM of an RSA public key; or KeyFile is where it is.
	Key     string `json:"key,omitempty"`
	KeyFile string `json:"keyFile,omitempty"`
}

// PublicKeys is a list that is JSON in the environment.
type PublicKeys []PublicKey

// Decode reads the value of a variable.
func (k *PublicKeys) Decode(text string) error {
	if err := json.Unmarshal([]byte(text), k); err != nil {
		return fmt.Errorf("want a JSON list of public keys: %w", err)
	}
	return nil
}

// validator makes the check of all tokens.
func (c *Config) validator(st store.Reader) (*token.Validator, error) {
	user, dp, zone := &c.APIServer.Authn.Tokens.Validator, &c.DPServer.Authn.DPProxy.DPToken.Validator, &c.DPServer.Authn.ZoneProxy.ZoneToken.Validator
	var public []token.PublicKey
	var without []token.Kind
	for _, of := range []struct {
		kind    token.Kind
		keys    PublicKeys
		secrets bool
	}{{token.KindUser, user.PublicKeys, user.UseSecrets}, {token.KindDataplane, dp.PublicKeys, dp.UseSecrets}, {token.KindZone, zone.PublicKeys, zone.UseSecrets}} {
		for _, k := range of.keys {
			text := []byte(k.Key)
			if k.KeyFile != "" {
				var err error
				if text, err = os.ReadFile(k.KeyFile); err != nil {
					return nil, fmt.Errorf("read public key %q of %ss: %w", k.KID, of.kind, err)
				}
			}
			public = append(public, token.PublicKey{Kind: of.kind, KID: k.KID, Mesh: k.Mesh, PEM: text})
		}
		if !of.secrets {
			without = append(without, of.kind)
		}
	}
	v, err := token.NewValidator(st, nil, public...)
	if err != nil {
		return nil, err
	}
	return v.WithoutSecrets(without...), nil
}

// checkPublicKeys adds what is wrong with the lists.
func (c *Config) checkPublicKeys(f *faults) {
	for _, of := range []struct {
		path string
		keys PublicKeys
		mesh bool
	}{
		{"apiServer.authn.tokens.validator.publicKeys", c.APIServer.Authn.Tokens.Validator.PublicKeys, false},
		{"dpServer.authn.dpProxy.dpToken.validator.publicKeys", c.DPServer.Authn.DPProxy.DPToken.Validator.PublicKeys, true},
		{"dpServer.authn.zoneProxy.zoneToken.validator.publicKeys", c.DPServer.Authn.ZoneProxy.ZoneToken.Validator.PublicKeys, false},
	} {
		for i, k := range of.keys {
			path := fmt.Sprintf("%s[%d]", of.path, i)
			switch {
			case k.KID == "":
				f.add(path+".kid", "must not be empty")
			case (k.Key == "") == (k.KeyFile == ""):
				f.add(path, "give either key or keyFile")
			case of.mesh && k.Mesh == "":
				f.add(path+".mesh", "must not be empty")
			case !of.mesh && k.Mesh != "":
				f.add(path+".mesh", "must be empty: these tokens are for no mesh")
			}
		}
	}
}
