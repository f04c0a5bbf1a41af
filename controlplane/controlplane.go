package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/bolt"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/internal/group"
	"github.com/kuma-dp/kuma-dp/internal/portowner"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// ErrStart wraps every error of Run that keeps the control plane from becoming ready: a supervisor that starts it again
// will most likely see it again.
var ErrStart = errors.New("start control plane")

// ControlPlane is one process of the control plane.
type ControlPlane struct {
	cfg      Config
	log      *slog.Logger
	registry *resource.Registry
	ready    chan struct{}
	addrs    Addresses
}

// Addresses are where a running control plane listens; nil where it does not.
type Addresses struct {
	HTTP, HTTPS, DPServer, Diagnostics net.Addr
}

// New checks the configuration and fills in what depends on the machine. It opens nothing and starts nothing; log may be
// nil for silence.
func New(cfg Config, log *slog.Logger) (*ControlPlane, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Mode == modeStandalone {
		cfg.Mode = modeZone
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &ControlPlane{
		cfg: cfg, log: log, registry: resource.NewRegistry(all.Descriptors()...), ready: make(chan struct{}),
	}, nil
}

// complete fills in the paths that follow from the work directory.
func (c *Config) complete() error {
	if c.General.WorkDir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("choose work directory: %w: set KUMA_GENERAL_WORK_DIR", err)
		}
		c.General.WorkDir = filepath.Join(home, ".kuma")
	}
	dir, err := filepath.Abs(c.General.WorkDir)
	if err != nil {
		return fmt.Errorf("find work directory: %w", err)
	}
	c.General.WorkDir = dir
	if c.General.TLSCertFile == "" {
		c.General.TLSCertFile, c.General.TLSKeyFile = filepath.Join(dir, certFile), filepath.Join(dir, keyFile)
	}
	if c.APIServer.HTTPS.TLSCertFile == "" {
		c.APIServer.HTTPS.TLSCertFile, c.APIServer.HTTPS.TLSKeyFile = c.General.TLSCertFile, c.General.TLSKeyFile
	}
	if c.DPServer.TLSCertFile == "" {
		c.DPServer.TLSCertFile, c.DPServer.TLSKeyFile = c.General.TLSCertFile, c.General.TLSKeyFile
	}
	if c.Store.Bolt.Path == "" {
		c.Store.Bolt.Path = filepath.Join(dir, storeFile)
	}
	return nil
}

// Ready is closed once every port is bound, the store is read and the defaults exist.
func (c *ControlPlane) Ready() <-chan struct{} { return c.ready }

// Addresses says where the control plane listens. It must not be called before Ready.
func (c *ControlPlane) Addresses() Addresses { return c.addrs }

// Run serves until ctx ends, and returns nil then. An error before Ready wraps ErrStart; a later one is that of the part
// that failed first, after which all others were stopped in order. It may be called once.
func (c *ControlPlane) Run(ctx context.Context) (err error) {
	p, err := c.start(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while starting
		}
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	defer func() { err = errors.Join(err, p.store.Close()) }()
	c.log.Info("control plane starts", "zone", c.cfg.Multizone.Zone.Name, "store", c.cfg.Store.Type, "instance", p.instanceID,
		"workDir", c.cfg.General.WorkDir)
	return group.Run(ctx, p.members(c.becomeReady)...)
}

// start opens what the parts need, builds them and binds their ports. What it opened is closed again when it fails.
func (c *ControlPlane) start(ctx context.Context) (_ *parts, err error) {
	if err := prepareWorkDir(c.cfg.General.WorkDir); err != nil {
		return nil, err
	}
	if c.cfg.General.TLSCertFile == filepath.Join(c.cfg.General.WorkDir, certFile) {
		if err := ownPair(c.cfg.General.TLSCertFile, c.cfg.General.TLSKeyFile, time.Now()); err != nil {
			return nil, err
		}
	}
	st, err := c.openStore()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Close())
		}
	}()
	p, err := c.build(ctx, st)
	if err != nil {
		return nil, err
	}
	if err := p.listen(ctx, &c.cfg); err != nil {
		return nil, explainPort(err)
	}
	return p, nil
}

func (c *ControlPlane) openStore() (store.Store, error) {
	if c.cfg.Store.Type == StoreMemory {
		return memory.Open(c.registry), nil
	}
	st, err := bolt.Open(c.cfg.Store.Bolt.Path, c.registry)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return st, nil
}

func (c *ControlPlane) becomeReady(p *parts) {
	c.addrs = p.addresses()
	p.diagnostics.ready.Store(true)
	close(c.ready)
	c.log.Info("control plane is ready", "http", text(c.addrs.HTTP), "https", text(c.addrs.HTTPS), "dpServer", text(c.addrs.DPServer),
		"diagnostics", text(c.addrs.Diagnostics))
}

func text(a net.Addr) string {
	if a == nil {
		return "off"
	}
	return a.String()
}

// explainPort adds who has the port that could not be bound.
func explainPort(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	addr, ok := op.Addr.(*net.TCPAddr)
	if !ok {
		return err
	}
	return fmt.Errorf("%w: %s", err, portowner.Explain("tcp", uint16(addr.Port))) // a bound port fits
}

// instanceID is "{hostname}-{4 hex}": another one for every start.
func instanceID(hostname string) string {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return hostname + "-" + hex.EncodeToString(b[:])
}

func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}
