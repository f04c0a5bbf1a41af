//go:build linux

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/internal/transcript"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// page is a page of docs/guides whose commands run, in their order, on the hosts of a scene. A block says on which one:
// "host=NAME". One in the background goes on running; kuma-cp is that of the scene. A block "text output" after it is what it prints, at least;
// the command is repeated until it does, since a change takes its time. In a copy of the tree "tree" runs a command,
// "file=PATH" writes a file, and "edit=PATH" puts lines after others.
type page struct {
	t      *testing.T
	scene  *scene.Scene
	blocks []block
	hosts  map[string]*netlab.Host
	// tree is the copy, "" for a page without.
	tree string
	// prelude are commands before each block, which the page does not show.
	prelude string
	// before is what the text says between two blocks, by the name of the second one.
	before map[string]func()
	// background are what runs in the background, by the name of the block.
	background map[string]*exec.Cmd
}

// readPage reads a page. The caller gives it a scene.
func readPage(t *testing.T, name string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/guides", name))
	if err != nil {
		t.Fatal(err)
	}
	p := &page{
		t: t, blocks: blocks(string(text)), hosts: map[string]*netlab.Host{}, before: map[string]func(){}, background: map[string]*exec.Cmd{},
	}
	if len(p.blocks) < 5 {
		t.Fatalf("%s has only %d blocks to run: are their info strings still there?", name, len(p.blocks))
	}
	return p
}

// file is the block with this word in its info string.
func (p *page) file(word string) string {
	p.t.Helper()
	for _, b := range p.blocks {
		if _, ok := b.info[word]; ok {
			return b.text
		}
	}
	p.t.Fatalf("the page has no block %s", word)
	return ""
}

// add starts a workload, whose host the page may use from now on.
func (p *page) add(cfg scene.WorkloadConfig) *scene.Workload {
	p.t.Helper()
	w := add(p.t, p.scene, cfg)
	p.hosts[w.Name] = w.Host
	return w
}

// run runs the page to its end.
func (p *page) run() {
	p.t.Helper()
	for i, b := range p.blocks {
		if b.info["host"] == "" {
			p.inTree(b)
			continue
		}
		_, background := b.info["background"]
		if name := b.info["name"]; p.before[name] != nil {
			p.before[name]()
			delete(p.before, name)
		} else if name != "" && !background { // which is named to be ended
			p.t.Fatalf("nobody knows what is to be done before the block %s", name)
		}
		if background && b.info["host"] == "cp" {
			p.controlPlane(b)
			continue
		}
		var want string
		if i+1 < len(p.blocks) {
			if _, output := p.blocks[i+1].info["output"]; output {
				want = p.blocks[i+1].text
			}
		}
		if background {
			p.start(b, want)
		} else {
			p.command(b, want)
		}
	}
	for name := range p.before {
		p.t.Fatalf("the page has no block %s", name)
	}
}

// controlPlane starts it with the variables before the command.
func (p *page) controlPlane(b block) {
	p.t.Helper()
	env, ok := strings.CutSuffix(strings.TrimSpace(b.text), "kuma-cp run")
	if !ok {
		p.t.Fatalf("in the background runs %q", b.text)
	}
	if err := p.scene.StartControlPlane(ctx(p.t), strings.Fields(env)...); err != nil {
		p.t.Fatal(err)
	}
	p.hosts["cp"] = p.scene.ControlPlane.Host
}

// shell is a block as a command of its host.
func (p *page) shell(c context.Context, b block) *exec.Cmd {
	p.t.Helper()
	host := p.hosts[b.info["host"]]
	if host == nil {
		p.t.Fatalf("a block runs on host %q, which does not exist:\n%s", b.info["host"], b.text)
	}
	cmd := host.Command(c, 0, "bash", "-euo", "pipefail", "-c", p.prelude+b.text)
	cmd.Dir = cmp.Or(p.tree, p.scene.Dir())
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(p.scene.Path("kumactl"))+":"+os.Getenv("PATH"), "HOME="+p.scene.Dir())
	return cmd
}

// start runs a block in the background, until the test ends it or ends, and waits until it has printed what it should.
func (p *page) start(b block, want string) {
	p.t.Helper()
	cmd, out := p.shell(context.WithoutCancel(p.t.Context()), b), transcript.New()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill() // some have ended
		_ = cmd.Wait()
		p.t.Logf("in the background:\n%s%s", b.text, out)
	})
	p.background[b.info["name"]] = cmd
	await(p.t, fmt.Sprintf("this in the background:\n%s\nto print\n%s", b.text, want), func(context.Context) error {
		if missing := missingLine(out.String(), want); missing != "" {
			return fmt.Errorf("it does not print %q, but\n%s", missing, out)
		}
		return nil
	})
}

// interrupt is Ctrl-C for a block in the background.
func (p *page) interrupt(name string) {
	p.t.Helper()
	if err := syscall.Kill(-p.background[name].Process.Pid, syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) command(b block, want string) {
	p.t.Helper()
	var last error
	once := func(c context.Context) error {
		cmd := p.shell(c, b)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if c.Err() != nil && last != nil {
			return last // one that was cut short tells less
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out.String())
		}
		if missing := missingLine(out.String(), want); missing != "" {
			last = fmt.Errorf("it does not print %q, but\n%s", missing, out.String())
			return last
		}
		p.t.Logf("on %s:\n%s%s", b.info["host"], b.text, out.String())
		return nil
	}
	if want == "" {
		if err := once(ctx(p.t)); err != nil {
			p.t.Fatalf("on %s:\n%s\n%v", b.info["host"], b.text, err)
		}
		return
	}
	await(p.t, fmt.Sprintf("this on %s:\n%s\nto print\n%s", b.info["host"], b.text, want), once)
}

// missingLine returns the first line of want that out does not have after the ones before it; "…" stands for anything and
// spaces for any number of them.
func missingLine(out, want string) string {
	lines := strings.Split(out, "\n")
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		var pattern []string
		for word := range strings.FieldsSeq(line) {
			pattern = append(pattern, strings.ReplaceAll(regexp.QuoteMeta(word), "…", ".*"))
		}
		expression := regexp.MustCompile(`^\s*` + strings.Join(pattern, `\s+`) + `\s*$`)
		for len(lines) > 0 && !expression.MatchString(lines[0]) {
			lines = lines[1:]
		}
		if len(lines) == 0 {
			return line
		}
		lines = lines[1:]
	}
	return ""
}

func TestMissingLine(t *testing.T) {
	const out = "NAME   AGE\nweb   1m\n\nbackend-1   2m\n"
	for _, tt := range []struct{ want, missing string }{
		{"", ""},
		{"NAME AGE\nbackend-1 …\n", ""},
		{"web 1m", ""},
		{"backend-1 …\nweb …\n", "web …"},
		{"backend …", "backend …"},
		{"web .m", "web .m"},
		{"…end-1 2m\nweb", "web"},
	} {
		if got := missingLine(out, tt.want); got != tt.missing {
			t.Errorf("%q: got %q, want %q", tt.want, got, tt.missing)
		}
	}
}
