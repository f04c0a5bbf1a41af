//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// block is a fenced block of a guide: its info string says where it runs ("host=NAME", "background") or that it is a file.
type block struct {
	info map[string]string
	text string
}

var fence = regexp.MustCompile("(?m)^( *)```(\\w+) ?(.*)\n((?s:.*?))^ *```$")

// blocks reads the fenced blocks that carry instructions for this test, without the indentation of their list item.
func blocks(markdown string) []block {
	var out []block
	for _, m := range fence.FindAllStringSubmatch(markdown, -1) {
		if m[3] == "" {
			continue
		}
		b := block{info: map[string]string{}}
		for word := range strings.FieldsSeq(m[3]) {
			key, value, _ := strings.Cut(word, "=")
			b.info[key] = value
		}
		for line := range strings.Lines(m[4]) {
			b.text += strings.TrimPrefix(line, m[1])
		}
		out = append(out, b)
	}
	return out
}

// TestReadmeGuide does what README.md tells a user to do, command by command, on two hosts.
func TestReadmeGuide(t *testing.T) {
	netlab.RequireRoot(t)
	markdown, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := newGuide(t)
	ran := 0
	for _, b := range blocks(string(markdown)) {
		if name := b.info["file"]; name != "" {
			guide.write("service", name, b.text)
			continue
		}
		guide.run(b)
		ran++
	}
	if ran < 7 {
		t.Errorf("only %d blocks of README.md were run: are their info strings still there?", ran)
	}
}

// guide is the two hosts of a user: each has a home folder, in which its commands run.
type guide struct {
	t     *testing.T
	hosts map[string]*netlab.Host
	homes map[string]string
	bin   string
	env   []string
}

func newGuide(t *testing.T) *guide {
	t.Helper()
	lab, err := netlab.New("kuma-guide")
	if err != nil {
		t.Fatal(err)
	}
	// Other users must reach the folder too, which t.TempDir does not allow.
	root := filepath.Join(os.TempDir(), "kuma-guide")
	if err := errors.Join(os.RemoveAll(root), os.Mkdir(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	g := &guide{t: t, hosts: map[string]*netlab.Host{}, homes: map[string]string{}, bin: filepath.Join(root, "bin")}
	t.Cleanup(func() {
		if err := errors.Join(lab.Close(), os.RemoveAll(root)); err != nil {
			t.Errorf("take the guide's hosts down: %v", err)
		}
	})
	g.install()
	for _, name := range []string{"cp", "service"} {
		host, err := lab.AddHost(name)
		if err != nil {
			t.Fatal(err)
		}
		g.hosts[name], g.homes[name] = host, filepath.Join(root, name)
		if err := errors.Join(os.Mkdir(g.homes[name], 0o755), host.SetResolvConf("nameserver 10.77.0.1\n")); err != nil {
			t.Fatal(err)
		}
	}
	g.env = append(os.Environ(), "PATH="+g.bin+":"+os.Getenv("PATH"),
		"CP="+g.hosts["cp"].Addr.String(), "ADDRESS="+g.hosts["service"].Addr.String())
	g.serve()
	return g
}

// install puts the binaries where every user of the machine may run them.
func (g *guide) install() {
	g.t.Helper()
	repo, err := filepath.Abs("../../bin")
	if err != nil {
		g.t.Fatal(err)
	}
	envoy, err := realenvoy.Find()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := os.Mkdir(g.bin, 0o755); err != nil {
		g.t.Fatal(err)
	}
	for to, from := range map[string]string{
		"kuma-dp": filepath.Join(repo, "kuma-dp"), "kuma-cp": filepath.Join(repo, "kuma-cp"),
		"kumactl": filepath.Join(repo, "kumactl"), "envoy": envoy,
	} {
		if out, err := exec.Command("install", "-m", "0755", from, filepath.Join(g.bin, to)).CombinedOutput(); err != nil {
			g.t.Fatalf("install %s: %v: %s (run make build first)", to, err, out)
		}
	}
}

// serve is the user's own service.
func (g *guide) serve() {
	g.t.Helper()
	app, err := scene.NewApp(g.hosts["service"], "my-service-1")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		if err := app.Close(); err != nil {
			g.t.Errorf("stop the service: %v", err)
		}
	})
}

func (g *guide) write(host, name, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.homes[host], name), []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// run runs a block with the shell; one in the background is awaited by the commands that follow it.
func (g *guide) run(b block) {
	t := g.t
	t.Helper()
	name := b.info["host"]
	host := g.hosts[name]
	if host == nil {
		t.Fatalf("a block runs on host %q, which the guide does not have", name)
	}
	text := b.text
	if strings.Contains(text, "useradd") {
		// The machine's own users stay as they are: the host gets a passwd of its own.
		if err := scene.AddUser(host); err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile(`(?m)^useradd .*$`).ReplaceAllString(text, "id kuma-dp")
	}
	// A background command lives until the test ends, others as long as the test is patient.
	c := ctx(t)
	if _, background := b.info["background"]; background {
		c = t.Context()
	}
	cmd := host.Command(c, 0, "bash", "-euc", text)
	cmd.Dir = g.homes[name]
	cmd.Env = append(slices.Clone(g.env), "HOME="+g.homes[name])
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if _, background := b.info["background"]; background {
		g.background(host, name, cmd)
		return
	}
	t.Logf("on %s:\n%s", name, text)
	if err := cmd.Run(); err != nil {
		t.Fatalf("on %s:\n%s\n%v: %s", name, text, err, out.String())
	}
	if strings.Contains(text, "generate dataplane-token") {
		g.copyFiles()
	}
}

// copyFiles does what the text says between two blocks.
func (g *guide) copyFiles() {
	for from, to := range map[string]string{"my-service-1.token": "my-service-1.token", ".kuma/kuma-cp.crt": "kuma-cp.crt"} {
		data, err := os.ReadFile(filepath.Join(g.homes["cp"], from))
		if err != nil {
			g.t.Fatal(err)
		}
		g.write("service", to, string(data))
		if to == "kuma-cp.crt" {
			if err := os.Chmod(filepath.Join(g.homes["service"], to), 0o644); err != nil {
				g.t.Fatal(err)
			}
		}
	}
}

// background starts cmd and, for the control plane, waits until it is ready.
func (g *guide) background(host *netlab.Host, name string, cmd *exec.Cmd) {
	t := g.t
	t.Helper()
	var log safeBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // it is stopped by a signal, by the guide or by the end of the test
	}()
	t.Cleanup(func() {
		_ = cmd.Cancel()
		<-done
		for _, r := range scene.RefusalsIn(name, log.String()) {
			t.Error(r)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, log.String())
		}
	})
	if name != "cp" {
		return
	}
	client := scene.HTTPClient(host)
	defer client.CloseIdleConnections()
	if err := scene.Await(ctx(t), "the control plane", func(context.Context) error {
		resp, err := client.Get("http://127.0.0.1:5680/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}); err != nil {
		t.Fatalf("%v; it said:\n%s", err, log.String())
	}
}
