package agent

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/certs"
)

// Identity says where the workload's certificate comes from.
type Identity struct {
	// Source is control-plane (default), files or spire.
	Source identity.Kind `json:"source"`
	// CertFile and KeyFile are PEM, read again when they change; CAFile has the authorities that verify the certificate, those
	// of the mesh when empty. Source files.
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	CAFile   string `json:"caFile,omitempty"`
	// Socket is that of a SPIRE agent's Workload API, as unix:///path or a path. Source spire.
	Socket string `json:"socket,omitempty"`
	// KeyType of the keys that are made here: ecdsa-p256 (default) or rsa-2048. Source control-plane.
	KeyType certs.KeyType `json:"keyType"`
}

func defaultIdentity() Identity {
	return Identity{Source: identity.FromControlPlane, KeyType: certs.ECDSAP256}
}

func (c *Config) identitySettings() []setting {
	i := &c.Identity
	return []setting{
		{"identity-source", "", "KUMA_IDENTITY_SOURCE", "where the workload's certificate comes from: control-plane, files or spire", text((*string)(&i.Source))},
		{"identity-cert-file", "", "KUMA_IDENTITY_CERT_FILE", "file with the workload's certificate and its intermediates, read again when it changes", text(&i.CertFile)},
		{"identity-key-file", "", "KUMA_IDENTITY_KEY_FILE", "file with the certificate's key", text(&i.KeyFile)},
		{"identity-ca-file", "", "KUMA_IDENTITY_CA_FILE", "file with the authorities that verify the certificate; default those of the mesh", text(&i.CAFile)},
		{"identity-socket", "", "KUMA_IDENTITY_SOCKET", "socket of a SPIRE agent's Workload API, such as unix:///run/spire/sockets/agent.sock", text(&i.Socket)},
		{"identity-key-type", "", "KUMA_IDENTITY_KEY_TYPE", "type of the keys that are made for certificates of the control plane: ecdsa-p256 or rsa-2048", text((*string)(&i.KeyType))},
	}
}

func (i *Identity) problems(proxyType string) (out []string) {
	files := i.CertFile != "" || i.KeyFile != "" || i.CAFile != ""
	switch i.Source {
	case identity.FromControlPlane:
	case identity.FromFiles:
		if i.CertFile == "" || i.KeyFile == "" {
			out = append(out, "source files needs --identity-cert-file and --identity-key-file")
		}
	case identity.FromSPIRE:
		if i.Socket == "" {
			out = append(out, "source spire needs --identity-socket")
		}
	default:
		return []string{".Source is not valid: " + string(i.Source) + " is none of control-plane, files and spire"}
	}
	if files && i.Source != identity.FromFiles {
		out = append(out, "identity files need --identity-source=files")
	}
	if i.Socket != "" && i.Source != identity.FromSPIRE {
		out = append(out, "--identity-socket needs --identity-source=spire")
	}
	if _, ok := socketPath(i.Socket); !ok && i.Socket != "" {
		out = append(out, ".Socket is not valid: "+i.Socket+" is neither unix:///path nor an absolute path")
	}
	if !slices.Contains([]certs.KeyType{certs.ECDSAP256, certs.RSA2048}, i.KeyType) {
		out = append(out, ".KeyType is not valid: "+string(i.KeyType)+" is neither ecdsa-p256 nor rsa-2048")
	}
	if i.Source != identity.FromControlPlane {
		if i.KeyType == certs.RSA2048 {
			out = append(out, "--identity-key-type has no effect on source "+string(i.Source)+", whose keys are made elsewhere: leave it out")
		}
		if proxyType != "dataplane" {
			out = append(out, "the identities of a zone proxy come from the control plane: leave out --identity-source")
		}
	}
	return out
}

// socketPath is the path of a unix socket, given with or without scheme.
func socketPath(text string) (path string, ok bool) {
	path = text
	if rest, found := strings.CutPrefix(text, "unix:"); found {
		path = strings.TrimPrefix(rest, "//")
	}
	return path, filepath.IsAbs(path)
}

// services lists the services of a Dataplane as JSON; nil when that is not known.
func services(resource string) (out []string) {
	type tagged struct{ Tags map[string]string }
	var dp struct {
		Networking struct {
			Inbound []tagged
			Gateway tagged
		}
	}
	if json.Unmarshal([]byte(resource), &dp) != nil {
		return nil
	}
	for _, t := range append(dp.Networking.Inbound, dp.Networking.Gateway) {
		if v := t.Tags[certs.TagService]; v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
