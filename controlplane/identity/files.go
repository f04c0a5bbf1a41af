package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/internal/filewatch"
	"github.com/kuma-dp/kuma-dp/resource"
)

// contentOf tells one authority's files from another's.
func contentOf(certPEM, keyPEM []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(certPEM)
	h.Write([]byte{0})
	h.Write(keyPEM)
	return [sha256.Size]byte(h.Sum(nil))
}

// watcher watches the files of provided backends. It belongs to Run.
type watcher struct {
	issuer *Issuer
	files  []string
	stop   func() // waits too
}

// follow watches the files that meshes name now.
func (w *watcher) follow(ctx context.Context) {
	files := w.issuer.files()
	if slices.Equal(files, w.files) {
		return
	}
	w.end()
	if w.files = files; len(files) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := filewatch.Watch(ctx, files, w.issuer.filesChanged); err != nil && ctx.Err() == nil {
			w.issuer.log.Warn("files of certificate authorities are not watched: write the Mesh again after they have changed", "error", err)
		}
	})
	w.stop = func() { cancel(); wg.Wait() }
}

func (w *watcher) end() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// provided calls f for each backend whose authority comes from files.
func (i *Issuer) provided(f func(mesh *resource.Resource, b *resource.MTLSBackend, conf *resource.ProvidedConf)) {
	for _, mesh := range i.store.List(resource.KindMesh, "") {
		for _, b := range resource.SpecOf[*resource.Mesh](mesh).TrustedBackends() {
			var conf resource.ProvidedConf
			if b.Type != resource.BackendProvided || json.Unmarshal(b.Conf, &conf) != nil {
				continue
			}
			if conf.Cert != nil && conf.Cert.File != "" || conf.Key != nil && conf.Key.File != "" {
				f(mesh, b, &conf)
			}
		}
	}
}

// files lists those of all meshes.
func (i *Issuer) files() (out []string) {
	i.provided(func(_ *resource.Resource, _ *resource.MTLSBackend, conf *resource.ProvidedConf) {
		for _, d := range []*resource.DataSource{conf.Cert, conf.Key} {
			if d != nil && d.File != "" {
				out = append(out, d.File)
			}
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// filesChanged takes new authorities into use. One that is no good, as one of which only half is written yet, leaves the one
// in use alone.
func (i *Issuer) filesChanged() {
	i.provided(func(mesh *resource.Resource, b *resource.MTLSBackend, conf *resource.ProvidedConf) {
		key := backendKey{mesh.Name, b.Name}
		i.mu.Lock()
		known := i.authorities[key]
		i.mu.Unlock()
		if known == nil || conf.Cert == nil || conf.Key == nil {
			return // it is read when it is needed
		}
		m := &material{store: i.store, mesh: mesh.Name}
		certPEM, err := m.read(conf.Cert)
		var keyPEM []byte
		if err == nil {
			keyPEM, err = m.read(conf.Key)
		}
		if err == nil {
			if known.content == contentOf(certPEM, keyPEM) {
				return
			}
			_, err = certs.LoadAuthority(certPEM, keyPEM)
		}
		if err != nil {
			i.log.Warn("the files of a certificate authority have changed and are no good: the one in use stays", "mesh", mesh.Name, "backend", b.Name, "error", err)
			return
		}
		i.mu.Lock()
		i.readings[key]++
		i.mu.Unlock()
		i.log.Info("certificate authority read again from its files", "mesh", mesh.Name, "backend", b.Name)
		i.changed(mesh.Name)
	})
}
