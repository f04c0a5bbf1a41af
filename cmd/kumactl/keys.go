package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

const (
	signingKeyBits  = 2048
	pemPrivate      = "RSA PRIVATE KEY"
	pemPublic       = "RSA PUBLIC KEY"
	defaultLifetime = 10 * 365 * 24 * time.Hour
	// backdating of nbf forgives clocks that differ, as the control plane's does.
	backdating = 5 * time.Minute
)

func newSigningKeyCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "signing-key", Short: "Generate a private key that signs tokens",
		Long: "Generate a private RSA key and print it: as base64, for the data of a Secret or GlobalSecret, or as PEM, to\n" +
			"generate tokens without a control plane.",
		Example: "  kumactl generate signing-key --format pem > key.pem",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "pem" && format != "pem-base64" {
				return usage(cmd, fmt.Sprintf("--format %q is none of pem, pem-base64", format))
			}
			key, err := rsa.GenerateKey(rand.Reader, signingKeyBits)
			if err != nil {
				return fmt.Errorf("generate signing key: %w", err)
			}
			text := pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: x509.MarshalPKCS1PrivateKey(key)})
			if format == "pem-base64" {
				text = []byte(base64.StdEncoding.EncodeToString(text))
			}
			_, err = a.stdout.Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "pem-base64", "format of the key: pem or pem-base64")
	return cmd
}

func newPublicKeyCommand(a *app) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "public-key", Short: "Print the public half of a signing key",
		Example: "  kumactl generate public-key --signing-key-path key.pem > public.pem",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usage(cmd, "--signing-key-path is required")
			}
			key, err := readKey(path)
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)}))
			return err
		},
	}
	cmd.Flags().StringVar(&path, "signing-key-path", "", "file with the private signing key, PEM or base64 of it")
	return cmd
}

// readKey reads what signing-key prints. What it read stays out of its errors.
func readKey(path string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		// Decoding fails for all but base64, and then there is no block either.
		plain, _ := base64.StdEncoding.DecodeString(string(text))
		block, _ = pem.Decode(plain)
	}
	if block == nil {
		return nil, fmt.Errorf("read signing key: %s is no PEM: make one with `kumactl generate signing-key --format pem`", path)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if key, ok := key.(*rsa.PrivateKey); ok {
			return key, nil
		}
	}
	return nil, fmt.Errorf("read signing key: %s holds no private RSA key", path)
}

// signToken makes a token as the control plane would (contract controlplane.md §2.5).
func signToken(t tokenFlags, claims map[string]any, now time.Time) ([]byte, error) {
	key, err := readKey(t.keyPath)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	validFor := t.validFor
	if validFor == 0 {
		validFor = defaultLifetime
	}
	all := jwt.MapClaims{"jti": id.String(), "iat": now.Unix(), "nbf": now.Add(-backdating).Unix(), "exp": now.Add(validFor).Unix()}
	maps.Copy(all, claims)
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, all)
	token.Header["kid"] = t.kid
	raw, err := token.SignedString(key)
	if err != nil {
		return nil, errors.New("the signing key is too small to sign")
	}
	return []byte(raw), nil
}
