package controlplane

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TestOfflineTokens: a person with a token that was issued elsewhere gets in, one with a token of the store does not when
// secrets do not count.
func TestOfflineTokens(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)})
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, public, 0o600); err != nil {
		t.Fatal(err)
	}
	tok := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"Name": "me", "exp": time.Now().Add(time.Hour).Unix()})
	tok.Header["kid"] = "office"
	raw, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal([]PublicKey{{KID: "office", KeyFile: file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUMA_API_SERVER_AUTHN_TOKENS_VALIDATOR_PUBLIC_KEYS", string(text))
	loaded, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t.TempDir())
	cfg.Store.Type = StoreMemory
	cfg.APIServer.Authn.Tokens.Validator = loaded.APIServer.Authn.Tokens.Validator
	cfg.APIServer.Authn.Tokens.Validator.UseSecrets = false
	r := start(t, cfg)
	own := string(r.call("POST", "/tokens/user", `{"name":"me","validFor":"1h"}`))
	for name, test := range map[string]struct {
		raw  string
		want int
	}{"offline": {raw, http.StatusOK}, "of a secret": {own, http.StatusUnauthorized}} {
		if status, body := r.answer("GET", "/who-am-i", "", "X-Forwarded-For", "192.0.2.1", "Authorization", "Bearer "+test.raw); status != test.want {
			t.Errorf("%s: got %d %s", name, status, body)
		}
	}
}

func TestPublicKeysAreChecked(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"apiServer.authn.tokens.validator.publicKeys[0].kid: ": func(c *Config) {
			c.APIServer.Authn.Tokens.Validator.PublicKeys = PublicKeys{{Key: "x"}}
		},
		"apiServer.authn.tokens.validator.publicKeys[0].mesh: ": func(c *Config) {
			c.APIServer.Authn.Tokens.Validator.PublicKeys = PublicKeys{{KID: "1", Mesh: "m", Key: "x"}}
		},
		"dpServer.authn.dpProxy.dpToken.validator.publicKeys[0].mesh: ": func(c *Config) {
			c.DPServer.Authn.DPProxy.DPToken.Validator.PublicKeys = PublicKeys{{KID: "1", Key: "x"}}
		},
		"dpServer.authn.zoneProxy.zoneToken.validator.publicKeys[0]: ": func(c *Config) {
			c.DPServer.Authn.ZoneProxy.ZoneToken.Validator.PublicKeys = PublicKeys{{KID: "1", Key: "x", KeyFile: "y"}}
		},
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	t.Setenv("KUMA_API_SERVER_AUTHN_TOKENS_VALIDATOR_PUBLIC_KEYS", "x")
	if _, err := Load(""); err == nil {
		t.Error("a variable that is no list was accepted")
	}
}
