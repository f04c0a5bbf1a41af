//go:build linux

package redirect_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// shellAs is a shell under another name, which the kernel shows as that of the process.
func shellAs(t *testing.T, name string) string {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(bash)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSSHPorts asks from within processes that look like those of an SSH session. The host is an empty namespace, so that
// the session in which the test itself may run does not show.
func TestSSHPorts(t *testing.T) {
	netlab.RequireRoot(t)
	l := newLab(t, "rd-ssh", redirect.Auto)
	var listener net.Listener
	l.do(t, func() (err error) { listener, err = net.Listen("tcp", "127.0.0.1:2222"); return err })
	defer listener.Close()
	var client, server net.Conn
	l.do(t, func() (err error) { client, err = net.Dial("tcp", "127.0.0.1:2222"); return err })
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	accepted, err := server.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	dialled, err := client.(*net.TCPConn).File() // as of a forwarding
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()

	outside := map[string]bool{} // of the session of whoever runs the test
	if v, ok := os.LookupEnv("SSH_CONNECTION"); ok && strings.Contains(v, " ") {
		outside[v[strings.LastIndexByte(v, ' ')+1:]] = true
	}
	for _, tc := range []struct {
		name, shell, script string
		files               []*os.File
		want                []string
	}{
		{"none", "bash", `"$0"; true`, nil, nil},
		{"variable", "bash", `SSH_CONNECTION="10.0.0.9 50000 10.0.0.2 22" "$0"; true`, nil, []string{"22"}},
		{"variable that sudo dropped", "bash", `export SSH_CONNECTION="10.0.0.9 50000 10.0.0.2 22"; bash -c 'env -u SSH_CONNECTION "$0"; true' "$0"; true`, nil, []string{"22"}},
		{"nonsense", "bash", `SSH_CONNECTION="10.0.0.9 x" "$0"; true`, nil, nil},
		{"an ancestor's connection", "sshd", `bash -c '"$0"; true' "$0" 3<&- 4<&-; true`, []*os.File{accepted, dialled}, []string{"2222"}},
		{"split server", "sshd-session", `"$0" 3<&- 4<&-; true`, []*os.File{accepted, dialled}, []string{"2222"}},
		{"not of an SSH server", "nginx", `"$0" 3<&- 4<&-; true`, []*os.File{accepted, dialled}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := l.Command(t.Context(), 0, shellAs(t, tc.shell), "-c", tc.script, os.Args[0])
			cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SSH_") }), childVariable+"=ports - - -")
			cmd.ExtraFiles = tc.files
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			got := strings.Fields(strings.Trim(string(out), "[]\n"))
			got = slices.DeleteFunc(got, func(p string) bool { return outside[p] && !slices.Contains(tc.want, p) })
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestExcludeInbound(t *testing.T) {
	for _, tc := range []struct {
		name              string
		set               func(*tp.Config)
		added, redirected []uint16
		ports             string
	}{
		{name: "added", set: func(*tp.Config) {}, added: []uint16{22}, ports: "22"},
		{name: "excluded already", set: func(c *tp.Config) { c.Inbound.ExcludePorts = redirectlab.ParsePorts(t, "20-25") }, ports: "20-25"},
		{name: "not inbound", set: func(c *tp.Config) { c.Inbound.Enabled = false }},
		{name: "others only", set: func(c *tp.Config) { c.Inbound.IncludePorts = redirectlab.ParsePorts(t, "80") }},
		{name: "wanted", set: func(c *tp.Config) { c.Inbound.IncludePorts = redirectlab.ParsePorts(t, "22,80") }, redirected: []uint16{22}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := config(tc.set)
			added, redirected := redirect.ExcludeInbound(&c, []uint16{22})
			if !slices.Equal(added, tc.added) || !slices.Equal(redirected, tc.redirected) {
				t.Errorf("added %v, redirected %v", added, redirected)
			}
			if diff := cmp.Diff(redirectlab.ParsePorts(t, tc.ports), c.Inbound.ExcludePorts); diff != "" {
				t.Error(diff)
			}
		})
	}
}
