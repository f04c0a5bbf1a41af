package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/kuma-dp/kuma-dp/controlplane/store/internal/engine"
	"github.com/kuma-dp/kuma-dp/resource"
)

// formatVersion is raised when the layout below changes in a way that an older control plane cannot read.
//
//	meta: format, revision, count (number of records), each 8 bytes big endian
//	res/<kind>: mesh NUL name → record
const formatVersion = 1

var (
	metaBucket  = []byte("meta")
	resBucket   = []byte("res")
	formatKey   = []byte("format")
	revisionKey = []byte("revision")
	countKey    = []byte("count")
)

// open opens the file with its lock, or makes a new one under another name first: a file that exists is complete, so
// an empty or half one is never mistaken for a new one.
func open(path string, wait time.Duration) (*bbolt.DB, error) {
	if path == "" {
		return nil, errors.New("no path was given")
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(path); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("%s is empty: restore it from a backup, or remove it to begin anew", path)
	}
	db, err := guard(func() (*bbolt.DB, error) {
		return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: wait, FreelistType: bbolt.FreelistMapType})
	})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s is in use by another process: stop that one, or choose another file", path)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read as a store, restore it from a backup or move it away to begin anew: %w", path, err)
	}
	return db, nil
}

func create(path string) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, ".new-store-") // 0700, so that nobody else can be first at the name inside
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	fresh := filepath.Join(tmp, "store")
	db, err := bbolt.Open(fresh, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucket(resBucket); err != nil {
			return err
		}
		for _, k := range [][]byte{revisionKey, countKey} {
			if err := putNumber(meta, k, 0); err != nil {
				return err
			}
		}
		return putNumber(meta, formatKey, formatVersion)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// Link fails when another process was faster; its file is then as good as ours, and the lock decides.
	if err := os.Link(fresh, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close()) // the name is durable too
}

// load reads everything. A damaged file can make bbolt panic or touch memory beyond the file's end: both become errors.
func load(db *bbolt.DB, reg *resource.Registry) (revision uint64, records []engine.Record, err error) {
	_, err = guard(func() (*bbolt.DB, error) {
		return db, db.View(func(tx *bbolt.Tx) error {
			info, err := os.Stat(db.Path())
			if err != nil {
				return err
			}
			if tx.Size() > info.Size() {
				return fmt.Errorf("file is cut short: %d of %d bytes", info.Size(), tx.Size())
			}
			meta, res := tx.Bucket(metaBucket), tx.Bucket(resBucket)
			if meta == nil || res == nil {
				return errors.New("it is a bbolt file, but not a store of this control plane")
			}
			var numbers [3]uint64
			for i, k := range [][]byte{formatKey, revisionKey, countKey} {
				v := meta.Get(k)
				if len(v) != 8 {
					return fmt.Errorf("%s is missing", k)
				}
				numbers[i] = binary.BigEndian.Uint64(v)
			}
			if numbers[0] != formatVersion {
				return fmt.Errorf("its format is %d, this version knows %d", numbers[0], formatVersion)
			}
			revision = numbers[1]
			err = res.ForEachBucket(func(k []byte) error {
				kind := resource.Kind(k)
				if reg.ByKind(kind) == nil {
					return fmt.Errorf("it holds kind %q, which this version does not know", kind)
				}
				return res.Bucket(k).ForEach(func(key, value []byte) error {
					rec, err := decodeRecord(reg, kind, key, value)
					if err != nil {
						return fmt.Errorf("%s: %w", rec.Key, err)
					}
					records = append(records, rec)
					return nil
				})
			})
			if err == nil && uint64(len(records)) != numbers[2] {
				err = fmt.Errorf("%d of %d records are there", len(records), numbers[2])
			}
			return err
		})
	})
	return revision, records, err
}

// write applies records and the revision in one transaction.
func write(db *bbolt.DB, revision uint64, records iter.Seq[engine.Record]) error {
	err := db.Update(func(tx *bbolt.Tx) error {
		meta, res := tx.Bucket(metaBucket), tx.Bucket(resBucket)
		count := binary.BigEndian.Uint64(meta.Get(countKey))
		for r := range records {
			b, err := res.CreateBucketIfNotExists([]byte(r.Key.Kind))
			if err != nil {
				return err
			}
			key := bucketKey(r.Key)
			was := b.Get(key) != nil
			if r.Resource == nil {
				if was {
					count--
				}
				err = b.Delete(key)
			} else {
				if !was {
					count++
				}
				err = b.Put(key, encodeRecord(r))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", r.Key, err)
			}
		}
		return errors.Join(putNumber(meta, countKey, count), putNumber(meta, revisionKey, revision))
	})
	if err != nil {
		return fmt.Errorf("write store %s: %w", db.Path(), err)
	}
	return nil
}

func putNumber(b *bbolt.Bucket, key []byte, n uint64) error {
	return b.Put(key, binary.BigEndian.AppendUint64(nil, n))
}

// guard turns panics and faults of reading a damaged file into errors.
func guard(f func() (*bbolt.DB, error)) (db *bbolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is damaged: %v", p)
		}
	}()
	return f()
}
