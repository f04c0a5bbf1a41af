// Package token issues and checks the JSON web tokens of Kuma 2.9: those by which proxies and people say who they are
// (contract controlplane.md §2.5). The keys are Secrets and GlobalSecrets of the store (§2.6): of several keys the one
// with the highest serial number signs, all of them verify. Only RS256 is accepted: the HS256 of old versions invites
// confusion of keys, and no 2.9 control plane issues it.
package token

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// ErrNoSigningKey means that there is no key to sign with. The API answers 404 "Signing Key not found".
var ErrNoSigningKey = errors.New("signing key not found")

const (
	keyBits     = 2048
	firstSerial = 1
	pemPrivate  = "RSA PRIVATE KEY"
	pemPublic   = "RSA PUBLIC KEY"
	pemPKIX     = "PUBLIC KEY"
)

// scope is one set of keys and its revocation list.
type scope struct {
	kind resource.Kind
	mesh string
	// base is "dataplane-token", to which "-signing-key" and so on are added.
	base string
	// suffix is "-<mesh>" for keys of a mesh.
	suffix string
}

func dataplaneScope(mesh string) scope {
	return scope{kind: resource.KindSecret, mesh: mesh, base: "dataplane-token", suffix: "-" + mesh}
}

func userScope() scope { return scope{kind: resource.KindGlobalSecret, base: "user-token"} }

func (s scope) key(name string) resource.Key {
	return resource.Key{Kind: s.kind, Mesh: s.mesh, Name: name}
}
func (s scope) privatePrefix() string        { return s.base + "-signing-key" + s.suffix + "-" }
func (s scope) publicPrefix() string         { return s.base + "-signing-public-key" + s.suffix + "-" }
func (s scope) revocations() resource.Key    { return s.key(s.base + "-revocations" + s.suffix) }
func (s scope) private(kid int) resource.Key { return s.key(s.privatePrefix() + strconv.Itoa(kid)) }
func (s scope) public(kid int) resource.Key  { return s.key(s.publicPrefix() + strconv.Itoa(kid)) }

func (s scope) String() string {
	if s.mesh == "" {
		return s.base
	}
	return s.base + " of mesh " + s.mesh
}

// EnsureDataplaneKey makes the first signing key of a mesh's dataplane tokens when it has none.
func EnsureDataplaneKey(ctx context.Context, s store.Store, mesh string) error {
	return ensure(ctx, s, dataplaneScope(mesh))
}

// EnsureUserKey makes the first signing key of user tokens when there is none.
func EnsureUserKey(ctx context.Context, s store.Store) error { return ensure(ctx, s, userScope()) }

func ensure(ctx context.Context, s store.Store, sc scope) error {
	if len(serials(s, sc)) > 0 {
		return nil
	}
	op, err := keyOp(sc)
	if err != nil {
		return err
	}
	// Somebody else may have been faster; their key is as good.
	if _, err := s.Commit(ctx, op); err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("store signing key of %s: %w", sc, err)
	}
	return nil
}

// DataplaneKeyOp returns the operation that creates the first signing key of a mesh, to be committed together with the
// Mesh.
func DataplaneKeyOp(mesh string) (store.Op, error) { return keyOp(dataplaneScope(mesh)) }

func keyOp(sc scope) (store.Op, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return store.Op{}, fmt.Errorf("generate signing key of %s: %w", sc, err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return store.Op{Action: store.Create, Resource: &resource.Resource{
		Meta: resource.Meta{Key: sc.private(firstSerial)},
		Spec: &resource.Secret{Data: data},
	}}, nil
}

// serials returns the numbers of the private keys of a scope, ascending.
func serials(r store.Reader, sc scope) []int {
	var out []int
	for _, res := range r.List(sc.kind, sc.mesh) {
		if rest, ok := strings.CutPrefix(res.Name, sc.privatePrefix()); ok {
			if n, ok := serial(rest); ok {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out
}

// serial reads the canonical decimal form only, so that one key has one kid.
func serial(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && strconv.Itoa(n) == s
}

// keys reads and parses keys. Parsed keys are kept until their secret changes; there are as many as secrets.
type keys struct {
	store store.Reader
	mu    sync.Mutex
	cache map[resource.Key]parsed
}

type parsed struct {
	version uint64
	private *rsa.PrivateKey // nil when the secret holds a public key
	public  *rsa.PublicKey
}

func newKeys(r store.Reader) *keys { return &keys{store: r, cache: map[resource.Key]parsed{}} }

// signing returns the newest private key and its serial number.
func (k *keys) signing(sc scope) (*rsa.PrivateKey, int, error) {
	numbers := serials(k.store, sc)
	if len(numbers) == 0 {
		return nil, 0, fmt.Errorf("%s: %w", sc, ErrNoSigningKey)
	}
	n := numbers[len(numbers)-1]
	p, err := k.get(sc.private(n))
	if err != nil {
		return nil, 0, err
	}
	if p.private == nil {
		return nil, 0, fmt.Errorf("%s holds a public key, a private one is needed to sign", sc.private(n))
	}
	return p.private, n, nil
}

// verifying returns the key of a serial number: the private one's public half, or a public one that was stored alone.
func (k *keys) verifying(sc scope, kid int) (*rsa.PublicKey, error) {
	p, err := k.get(sc.private(kid))
	if errors.Is(err, store.ErrNotFound) {
		p, err = k.get(sc.public(kid))
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("there is no signing key with KID %d of %s", kid, sc)
	}
	return p.public, err
}

func (k *keys) get(key resource.Key) (parsed, error) {
	res, err := k.store.Get(key)
	if err != nil {
		return parsed{}, err
	}
	k.mu.Lock()
	p, ok := k.cache[key]
	k.mu.Unlock()
	if ok && p.version == res.Version {
		return p, nil
	}
	p, err = parse(resource.SpecOf[*resource.Secret](res).Data)
	if err != nil {
		return parsed{}, fmt.Errorf("read signing key %s: %w", key, err)
	}
	p.version = res.Version
	k.mu.Lock()
	k.cache[key] = p
	k.mu.Unlock()
	return p, nil
}

var errNotRSA = errors.New("it is not the PEM of an RSA key")

// parse reads a PKCS#1 or PKIX key. What it read stays out of its errors.
func parse(data []byte) (parsed, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return parsed{}, errNotRSA
	}
	switch block.Type {
	case pemPrivate:
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return parsed{}, errNotRSA
		}
		return parsed{private: key, public: &key.PublicKey}, nil
	case pemPublic:
		key, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return parsed{}, errNotRSA
		}
		return parsed{public: key}, nil
	case pemPKIX:
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return parsed{}, errNotRSA
		}
		public, ok := key.(*rsa.PublicKey)
		if !ok {
			return parsed{}, errNotRSA
		}
		return parsed{public: public}, nil
	default:
		return parsed{}, errNotRSA
	}
}

// revoked tells whether the revocation list of a scope, token ids with commas between, names id, which is not empty.
// Without a list nothing is revoked.
func (k *keys) revoked(sc scope, id string) (bool, error) {
	res, err := k.store.Get(sc.revocations())
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for part := range strings.SplitSeq(string(resource.SpecOf[*resource.Secret](res).Data), ",") {
		if strings.TrimSpace(part) == id {
			return true, nil
		}
	}
	return false, nil
}
