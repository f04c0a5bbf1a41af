//go:build linux

package fault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

const api = "http://127.0.0.1:5681"

// askAPI sends one request to the API of the control plane and returns the status and the body.
func askAPI(t *testing.T, client *http.Client, method, path, body string) (int, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx(t), method, api+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// writer writes one policy again and again, and a mesh from time to time, until the control plane is gone.
type writer struct {
	name string
	// acknowledged is the last state of the policy that the control plane confirmed, tried the last that was sent.
	acknowledged, tried int
	// meshes were confirmed; maybe was sent when the control plane died.
	meshes []string
	maybe  string
}

func (w *writer) path() string { return "/meshes/default/meshtimeouts/" + w.name }

func (w *writer) run(t *testing.T, client *http.Client, wrote chan<- struct{}) {
	t.Helper()
	for {
		w.tried++
		body := fmt.Sprintf(`{"type":"MeshTimeout","mesh":"default","name":%q,"labels":{"n":"%[2]d"},"spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"%[2]ds"}}]}}`, w.name, w.tried)
		status, text, err := askAPI(t, client, http.MethodPut, w.path(), body)
		if err != nil {
			return
		}
		if status/100 != 2 {
			t.Errorf("%s: got %d %s", w.name, status, text)
			return
		}
		w.acknowledged = w.tried
		wrote <- struct{}{}
		if w.tried%10 != 0 {
			continue
		}
		w.maybe = w.name + "-mesh-" + strconv.Itoa(w.tried)
		status, text, err = askAPI(t, client, http.MethodPut, "/meshes/"+w.maybe, fmt.Sprintf(`{"type":"Mesh","name":%q,"mtls":{"enabledBackend":"ca","backends":[{"name":"ca","type":"builtin"}]}}`, w.maybe))
		if err != nil {
			return
		}
		if status != http.StatusCreated {
			t.Errorf("%s: got %d %s", w.maybe, status, text)
			return
		}
		w.meshes, w.maybe = append(w.meshes, w.maybe), ""
	}
}

// check compares what the control plane has after its restart with what it confirmed before.
func (w *writer) check(t *testing.T, client *http.Client) {
	t.Helper()
	status, text, err := askAPI(t, client, http.MethodGet, w.path(), "")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Labels map[string]string
		Spec   struct {
			To []struct {
				Default struct{ ConnectionTimeout string }
			}
		}
	}
	switch {
	case status == http.StatusNotFound && w.acknowledged == 0:
	case status != http.StatusOK:
		t.Errorf("%s: got %d %s, state %d was confirmed", w.name, status, text, w.acknowledged)
	default:
		if err := json.Unmarshal(text, &got); err != nil || len(got.Spec.To) != 1 {
			t.Fatalf("%v: %s", err, text)
		}
		n, err := strconv.Atoi(got.Labels["n"])
		if err != nil || n != w.acknowledged && n != w.tried {
			t.Errorf("%s is in state %q, confirmed was %d, tried %d", w.name, got.Labels["n"], w.acknowledged, w.tried)
		}
		if spec, err := time.ParseDuration(got.Spec.To[0].Default.ConnectionTimeout); err != nil || spec != time.Duration(n)*time.Second {
			t.Errorf("%s is half of state %d: %s", w.name, n, text)
		}
		w.tried, w.acknowledged = n, n
	}
	for _, mesh := range w.meshes {
		if !wholeMesh(t, client, mesh) {
			t.Errorf("%s was confirmed and is gone", mesh)
		}
	}
	if w.maybe != "" && wholeMesh(t, client, w.maybe) {
		w.meshes = append(w.meshes, w.maybe)
	}
	w.maybe = ""
}

// wholeMesh tells whether a mesh is there. It must be there with everything that is made together with it, or not at all.
func wholeMesh(t *testing.T, client *http.Client, mesh string) bool {
	t.Helper()
	status, _, err := askAPI(t, client, http.MethodGet, "/meshes/"+mesh, "")
	if err != nil {
		t.Fatal(err)
	}
	there := status == http.StatusOK
	for _, path := range []string{
		"/secrets/dataplane-token-signing-key-" + mesh + "-1", "/secrets/" + mesh + ".ca-builtin-cert-ca", "/secrets/" + mesh + ".ca-builtin-key-ca",
		"/meshtimeouts/mesh-timeout-all-" + mesh,
	} {
		status, text, err := askAPI(t, client, http.MethodGet, "/meshes/"+mesh+path, "")
		if err != nil {
			t.Fatal(err)
		}
		if (status == http.StatusOK) != there {
			t.Errorf("mesh %s is there: %v, but %s answers %d %s", mesh, there, path, status, text)
		}
	}
	return there
}

// TestKilledWhileWriting kills the control plane under a load of changes, again and again: nothing that it confirmed is
// lost, and nothing is there by half.
func TestKilledWhileWriting(t *testing.T) {
	const rounds, workers = 6, 8
	s := newScene(t, "kuma-cpcrash")
	client := scene.HTTPClient(s.ControlPlane.Host)
	defer client.CloseIdleConnections()
	writers := make([]*writer, workers)
	for i := range writers {
		writers[i] = &writer{name: "w" + strconv.Itoa(i)}
	}
	for round := range rounds {
		wrote := make(chan struct{}, 1<<16)
		var wg sync.WaitGroup
		for _, w := range writers {
			wg.Go(func() { w.run(t, client, wrote) })
		}
		for range 50 + 37*round { // never at the same point
			select {
			case <-wrote:
			case <-ctx(t).Done():
				t.Fatal("the control plane takes no changes")
			}
		}
		s.ControlPlane.Kill()
		wg.Wait()
		client.CloseIdleConnections()
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		for _, w := range writers {
			w.check(t, client)
		}
		if t.Failed() {
			return
		}
	}
	meshes := 0
	for _, w := range writers {
		meshes += len(w.meshes)
	}
	if meshes == 0 {
		t.Error("no mesh was made: the test shows less than it should")
	}
}

// TestControlPlaneMayNot starts control planes as a user who may not write, or not read, what they need.
func TestControlPlaneMayNot(t *testing.T) {
	const nobody = 65534
	s := newScene(t, "kuma-cpmaynot")
	own := filepath.Dir(s.ControlPlane.CAFile())
	if err := s.ControlPlane.Stop(ctx(t)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name        string
		file        string // whose mode is changed
		mode        os.FileMode
		owner       int
		says, names string
	}{
		{"read-only store", "kuma-cp.db", 0o400, nobody, "permission denied", "kuma-cp.db"},
		{"store of somebody else", "kuma-cp.db", 0o600, 0, "permission denied", "kuma-cp.db"},
		{"key of somebody else", "kuma-cp.key", 0o600, 0, "permission denied", "kuma-cp.key"},
		{"folder without write permission", "", 0o500, nobody, "permission denied", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := foreignDir(t, nobody)
			for _, name := range []string{"kuma-cp.crt", "kuma-cp.key", "kuma-cp.db"} {
				if tt.file == "" {
					break // it wants to make them
				}
				b, err := os.ReadFile(filepath.Join(own, name))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
				}
				if err == nil {
					err = os.Chown(filepath.Join(dir, name), nobody, nobody)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, tt.file)
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, tt.owner, tt.owner); err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			code, said := runControlPlaneAs(t, s, nobody, dir)
			if last := lastLine(said); code != 1 || !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, tt.says) || !strings.Contains(last, filepath.Join(dir, tt.names)) {
				t.Errorf("exit code %d, %s", code, last)
			}
			for name, was := range before {
				if now, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(now, was) {
					t.Errorf("%s was changed (%v)", name, err)
				}
			}
		})
	}

	t.Run("all as it should be", func(t *testing.T) {
		dir := foreignDir(t, nobody)
		if code, said := runControlPlaneAs(t, s, nobody, dir); code > 0 || !strings.Contains(said, "control plane is ready") {
			t.Errorf("exit code %d:\n%s", code, said)
		}
		for name := range contents(t, dir) {
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(dir, name), &st); err != nil || st.Uid != nobody || st.Mode&0o077 != 0 && filepath.Ext(name) != ".crt" {
				t.Errorf("%s: owner %d, mode %o, %v", name, st.Uid, st.Mode&0o777, err)
			}
		}
	})
}

// foreignDir makes a folder of another user, which that user can reach.
func foreignDir(t *testing.T, uid int) string {
	t.Helper()
	dir := t.TempDir()
	err := os.Chmod(filepath.Dir(dir), 0o755)
	if err == nil {
		err = os.Chown(dir, uid, uid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
