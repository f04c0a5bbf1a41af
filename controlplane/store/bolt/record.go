package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store/internal/engine"
	"github.com/kuma-dp/kuma-dp/resource"
)

// A value of the file is
//
//	version uvarint, creation and modification time (Unix nanoseconds) varint,
//	owner kind, mesh, name (each uvarint length and bytes), body (the rest), CRC-32C of kind, key and all before.
//
// The sum covers the key, so that a value under a wrong key is found out too.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("record is damaged")

// bucketKey is mesh and name with a NUL between; neither holds one.
func bucketKey(k resource.Key) []byte { return []byte(k.Mesh + "\x00" + k.Name) }

func sum(kind resource.Kind, key, value []byte) uint32 {
	c := crc32.Update(0, castagnoli, []byte(kind))
	c = crc32.Update(c, castagnoli, []byte{0})
	c = crc32.Update(c, castagnoli, key)
	return crc32.Update(c, castagnoli, value)
}

func encodeRecord(r engine.Record) []byte {
	b := make([]byte, 0, len(r.Body)+64)
	b = binary.AppendUvarint(b, r.Resource.Version)
	b = binary.AppendVarint(b, r.Resource.CreationTime.UnixNano())
	b = binary.AppendVarint(b, r.Resource.ModificationTime.UnixNano())
	for _, s := range []string{string(r.Owner.Kind), r.Owner.Mesh, r.Owner.Name} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, r.Body...)
	return binary.BigEndian.AppendUint32(b, sum(r.Key.Kind, bucketKey(r.Key), b))
}

// decodeRecord reads what encodeRecord wrote. The registry must know the kind.
func decodeRecord(reg *resource.Registry, kind resource.Kind, key, value []byte) (engine.Record, error) {
	mesh, name, found := strings.Cut(string(key), "\x00")
	rec := engine.Record{Key: resource.Key{Kind: kind, Mesh: mesh, Name: name}}
	if !found || len(value) < crc32.Size {
		return rec, errDamaged
	}
	b, tail := value[:len(value)-crc32.Size], value[len(value)-crc32.Size:]
	if binary.BigEndian.Uint32(tail) != sum(kind, key, b) {
		return rec, errDamaged
	}
	version, n := binary.Uvarint(b)
	if n <= 0 {
		return rec, errDamaged
	}
	b = b[n:]
	var times [2]time.Time
	for i := range times {
		ns, n := binary.Varint(b)
		if n <= 0 {
			return rec, errDamaged
		}
		times[i], b = time.Unix(0, ns).UTC(), b[n:]
	}
	var owner [3]string
	for i := range owner {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return rec, errDamaged
		}
		owner[i], b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	// The file's memory belongs to bbolt and ends with the transaction; a decoder may keep raw parts of its input.
	rec.Body = append([]byte(nil), b...)
	r, _, err := reg.DecodeStored(rec.Body)
	if err != nil {
		return rec, err
	}
	if r.Key != rec.Key {
		return rec, fmt.Errorf("%w: it says that it is %s", errDamaged, r.Key)
	}
	r.Version, r.CreationTime, r.ModificationTime = version, times[0], times[1]
	rec.Resource = r
	rec.Owner = resource.Key{Kind: resource.Kind(owner[0]), Mesh: owner[1], Name: owner[2]}
	return rec, nil
}
