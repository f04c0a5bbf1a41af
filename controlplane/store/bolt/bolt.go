// Package bolt is the durable store of one control plane: one file, safe against crashes, locked against a second
// process (contract controlplane.md §6.4). All reads come from memory. Commits that wait for the disk together share
// one write to it. Volatile kinds are written along with the next durable commit, or after FlushInterval.
package bolt

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/internal/engine"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	// defaultFlushInterval bounds what a crash can lose of insights; they are rebuilt from connections anyway.
	defaultFlushInterval = 2 * time.Second
	// defaultLockTimeout lets a control plane that is just stopping finish, without hiding one that stays.
	defaultLockTimeout = time.Second
)

// Config is what New needs.
type Config struct {
	// Path of the file. It is created with mode 0600, its directory with 0700, when they are not there.
	Path     string
	Registry *resource.Registry
	// FlushInterval is how long a change of a volatile kind may stay in memory only; 2 s when 0.
	FlushInterval time.Duration
	// LockTimeout is how long to wait for another process to let go of the file; 1 s when 0.
	LockTimeout time.Duration
	// Log is silent when nil.
	Log *slog.Logger
}

// Store is a store.Store on a file.
type Store struct {
	*engine.Engine
	file *file
	stop chan struct{}
	wg   sync.WaitGroup
	once sync.Once
}

var _ store.Store = (*Store)(nil)

// Open is New with the defaults of Config.
func Open(path string, r *resource.Registry) (*Store, error) {
	return New(Config{Path: path, Registry: r})
}

// New opens or creates the file. It refuses a file that another process has open, that is damaged, that is empty, or
// that holds what this version does not know; it never replaces one.
func New(cfg Config) (*Store, error) {
	if cfg.FlushInterval == 0 {
		cfg.FlushInterval = defaultFlushInterval
	}
	if cfg.LockTimeout == 0 {
		cfg.LockTimeout = defaultLockTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	db, err := open(cfg.Path, cfg.LockTimeout)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	revision, records, err := load(db, cfg.Registry)
	if err != nil {
		_ = db.Close() // the fault of the content is the one to report
		return nil, fmt.Errorf("open store: %s cannot be used, restore it from a backup or move it away to begin anew: %w", cfg.Path, err)
	}
	f := &file{db: db, log: cfg.Log.With("component", "store", "path", cfg.Path), pending: map[resource.Key]engine.Record{}, dirty: make(chan struct{}, 1)}
	e, err := engine.New(engine.Config{Registry: cfg.Registry, Persister: f, Revision: revision, Records: records})
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open store: %s: %w", cfg.Path, err)
	}
	s := &Store{Engine: e, file: f, stop: make(chan struct{})}
	s.wg.Go(func() { f.flushLoop(s.stop, cfg.FlushInterval) })
	return s, nil
}

// Close implements store.Store. Further calls do nothing.
func (s *Store) Close() (err error) {
	s.once.Do(func() { err = s.close() })
	return err
}

func (s *Store) close() error {
	err := s.Engine.Close()
	close(s.stop)
	s.wg.Wait()
	if ferr := s.file.flush(); err == nil {
		err = ferr
	}
	if cerr := s.file.db.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close store: %w", cerr)
	}
	return err
}

// Backup writes a consistent copy of the file to w while the store is in use.
func (s *Store) Backup(w io.Writer) error {
	if err := s.file.flush(); err != nil {
		return err
	}
	err := s.file.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	return nil
}

// file is the engine's persister.
type file struct {
	db    *bbolt.DB
	log   *slog.Logger
	dirty chan struct{} // capacity 1: set when pending becomes non-empty

	mu       sync.Mutex
	revision uint64
	pending  map[resource.Key]engine.Record // volatile changes that are not in the file
}

var _ engine.Persister = (*file)(nil)

// Persist implements engine.Persister. A durable write takes the pending records along.
func (f *file) Persist(revision uint64, records []engine.Record, durable bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !durable {
		f.revision = revision
		for _, r := range records {
			f.pending[r.Key] = r
		}
		select {
		case f.dirty <- struct{}{}:
		default:
		}
		return nil
	}
	all := maps.Clone(f.pending)
	for _, r := range records {
		all[r.Key] = r
	}
	if err := write(f.db, revision, maps.Values(all)); err != nil {
		return err
	}
	f.revision = revision
	clear(f.pending)
	return nil
}

func (f *file) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) == 0 {
		return nil
	}
	if err := write(f.db, f.revision, maps.Values(f.pending)); err != nil {
		return err
	}
	clear(f.pending)
	return nil
}

func (f *file) flushLoop(stop <-chan struct{}, interval time.Duration) {
	for {
		select {
		case <-stop:
			return
		case <-f.dirty:
		}
		timer := time.NewTimer(interval)
		select {
		case <-stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := f.flush(); err != nil {
			f.log.Error("write insights to store", "error", err)
			select {
			case f.dirty <- struct{}{}: // try again after the next interval
			default:
			}
		}
	}
}
