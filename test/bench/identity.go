//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/agent/relay"
)

const (
	// fleet is how many agents renew, and renewing the time over which they do.
	fleet    = 1000
	renewing = 10 * time.Second
	// firsts is how many first certificates are timed.
	firsts = 50
)

// identities measures signing, handshakes, and a control plane of its own whose agents are in this process.
func (b *bench) identities(ctx context.Context) (rows []row, err error) {
	const signing = "leaf certificates signed on one core, "
	for _, g := range []goBench{
		{signing + "ECDSA authority", "", "200 µs each, 5,000/s", "./certs", "^BenchmarkSign$/^authority=ecdsa$", "ns/op", "5000x"},
		{signing + "RSA-2048 authority", "", "", "./certs", "^BenchmarkSign$/^authority=rsa$", "ns/op", "500x"},
		{"agent: a request in clear to a permissive inbound is counted", "", "", "./agent/mtls", "^BenchmarkAccessLog$", "ns/request", "10000x"},
	} {
		found, err := g.run(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{g.what, g.kuma, g.budget, found})
	}
	shaken, err := handshakes(ctx)
	if err != nil {
		return nil, err
	}
	rows = append(rows, shaken...)
	for _, keyType := range []string{"ECDSA", "RSA"} {
		r, err := b.renewals(ctx, keyType)
		if err != nil {
			return nil, fmt.Errorf("renewals with an %s authority: %w", keyType, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// renewals measures a control plane, and agents that ask it for certificates.
func (b *bench) renewals(ctx context.Context, keyType string) (rows []row, err error) {
	p, err := b.startProgram(ctx, keyType)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	first, err := p.firsts(ctx)
	if err != nil {
		return nil, err
	}
	agents, err := p.connect(ctx)
	defer func() {
		for _, a := range agents {
			err = errors.Join(err, a.conn.Close())
		}
	}()
	if err != nil {
		return nil, err
	}
	// A first round, so that the second one is of renewals.
	if _, err := issueAll(ctx, agents, 0); err != nil {
		return nil, err
	}
	planeBefore, err := cpuTime(p.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	ownBefore, err := cpuTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	took, err := issueAll(ctx, agents, renewing/fleet)
	if err != nil {
		return nil, err
	}
	plane, err := cpuTime(p.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	own, err := cpuTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	budget := ""
	if keyType == "ECDSA" {
		budget = "1 CPU-s of the control plane"
	}
	return []row{
		{"agent: asks for its first certificate → can give it to Envoy, connection included, " + keyType + " authority", "", "30 ms", spread(first)},
		{
			fmt.Sprintf("%d agents renew within %s, %s authority", fleet, renewing, keyType), "", budget,
			fmt.Sprintf("control plane %.2f CPU-s, agents %.0f µs each; %s", (plane - planeBefore).Seconds(), float64((own-ownBefore).Microseconds())/fleet, spread(took)),
		},
	}, nil
}

// program is a kuma-cp on ports of its own.
type program struct {
	cmd    *exec.Cmd
	out    strings.Builder
	dir    string
	api    string
	dp     string
	config *tls.Config
}

// startProgram starts kuma-cp with Dataplanes for the fleet.
func (b *bench) startProgram(ctx context.Context, keyType string) (p *program, err error) {
	dir, err := os.MkdirTemp("", "kuma-bench-identity-")
	if err != nil {
		return nil, err
	}
	p = &program{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	ports, err := freePorts(ctx, 3)
	if err != nil {
		return nil, err
	}
	p.api, p.dp = "http://"+ports[0], ports[1]
	_, api, _ := net.SplitHostPort(ports[0])
	_, dp, _ := net.SplitHostPort(ports[1])
	_, diagnostics, _ := net.SplitHostPort(ports[2])
	p.cmd = exec.CommandContext(ctx, filepath.Join(b.bin, "kuma-cp"), "run")
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "KUMA_GENERAL_WORK_DIR="+dir, "KUMA_API_SERVER_HTTP_INTERFACE=127.0.0.1", "KUMA_API_SERVER_HTTP_PORT="+api,
		"KUMA_API_SERVER_HTTPS_ENABLED=false", "KUMA_DP_SERVER_PORT="+dp, "KUMA_DIAGNOSTICS_SERVER_PORT="+diagnostics)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for code := 0; code != http.StatusOK; {
		if code, err = ask(ctx, http.DefaultClient, "http://"+ports[2]+"/ready"); err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
	pem, err := os.ReadFile(filepath.Join(dir, "kuma-cp.crt"))
	if err != nil {
		return nil, err
	}
	p.config = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	p.config.RootCAs.AppendCertsFromPEM(pem)
	mesh := `{"type":"Mesh","name":"default","mtls":{"enabledBackend":"ca-1","backends":[{"name":"ca-1","type":"builtin","conf":{"caCert":{"keyType":"` + keyType + `"}}}]}}`
	if _, err := p.send(ctx, http.MethodPut, "/meshes/default", mesh); err != nil {
		return nil, err
	}
	for i := range fleet {
		body := fmt.Sprintf(`{"type":"Dataplane","mesh":"default","name":"dp-%d","networking":{"address":"10.%d.%d.1","inbound":[{"port":8080,`+
			`"tags":{"kuma.io/service":"service-%d","kuma.io/protocol":"http"}}]}}`, i, i/256, i%256, i%100)
		if _, err := p.send(ctx, http.MethodPut, fmt.Sprintf("/meshes/default/dataplanes/dp-%d", i), body); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *program) stop() error {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill() // it may be gone
		_ = p.cmd.Wait()         // it was killed
	}
	return os.RemoveAll(p.dir)
}

// send sends a request to the control plane, whose administrator this process is.
func (p *program) send(ctx context.Context, method, path, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.api+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("content-type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return string(text), err
}

// asker is what an agent is to a control plane that it asks for certificates.
type asker struct {
	name, token string
	conn        *grpc.ClientConn
}

func (p *program) asker(ctx context.Context, i int) (*asker, error) {
	name := fmt.Sprintf("dp-%d", i)
	token, err := p.send(ctx, http.MethodPost, "/tokens/dataplane", fmt.Sprintf(`{"mesh":"default","name":%q,"validFor":"1h"}`, name))
	if err != nil {
		return nil, err
	}
	conn, err := relay.Connect(p.dp, p.config)
	return &asker{name, token, conn}, err
}

// issue gets one certificate and returns how long that took.
func (a *asker) issue(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	issued := make(chan *identity.SVID, 1)
	source, err := identity.New(identity.Config{
		Conn: a.conn, Token: func() (string, error) { return a.token, nil }, Node: "default." + a.name,
		Issued:      func(v *identity.SVID) { issued <- v; cancel() },
		Unsupported: cancel,
	})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := source.Run(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began)
	select {
	case v := <-issued:
		if _, err := v.Secret("secret"); err != nil {
			return 0, err
		}
		return took, nil
	default:
		return 0, fmt.Errorf("%s got no certificate: %s", a.name, source.Status().LastError)
	}
}

// firsts times the first certificates of agents, one after the other.
func (p *program) firsts(ctx context.Context) (all []time.Duration, err error) {
	for i := range firsts {
		a, err := p.asker(ctx, i)
		if err != nil {
			return nil, err
		}
		took, err := a.issue(ctx)
		if err := errors.Join(err, a.conn.Close()); err != nil {
			return nil, err
		}
		all = append(all, took)
	}
	return all, nil
}

// connect connects the fleet.
func (p *program) connect(ctx context.Context) (all []*asker, err error) {
	for i := range fleet {
		a, err := p.asker(ctx, i)
		if err != nil {
			return all, err
		}
		all = append(all, a)
		a.conn.Connect()
	}
	for _, a := range all {
		for st := a.conn.GetState(); st != connectivity.Ready; st = a.conn.GetState() {
			if !a.conn.WaitForStateChange(ctx, st) {
				return all, ctx.Err()
			}
		}
	}
	return all, nil
}

// issueAll has every agent ask, one so long after the other, and returns how long each waited.
func issueAll(ctx context.Context, agents []*asker, apart time.Duration) ([]time.Duration, error) {
	took, errs := make([]time.Duration, len(agents)), make([]error, len(agents))
	begin := time.Now()
	var wg sync.WaitGroup
	for i, a := range agents {
		wg.Go(func() {
			if err := sleep(ctx, time.Until(begin.Add(time.Duration(i)*apart))); err != nil {
				errs[i] = err
				return
			}
			took[i], errs[i] = a.issue(ctx)
		})
	}
	wg.Wait()
	return took, errors.Join(errs...)
}

// freePorts returns addresses on loopback that nobody has at the moment.
func freePorts(ctx context.Context, n int) (all []string, err error) {
	for range n {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // nobody has connected
		all = append(all, l.Addr().String())
	}
	return all, nil
}
