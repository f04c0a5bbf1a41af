package agent

import (
	"context"

	"github.com/kuma-dp/kuma-dp/agent/envoy"
	"github.com/kuma-dp/kuma-dp/bootstrap"
)

// testedEnvoy is the version that our own tests run.
const testedEnvoy = "1.40.0"

// findEnvoy finds the binary and asks it what it is. Another version than the tested one is no reason not to run.
func (a *Agent) findEnvoy(ctx context.Context) (path string, v bootstrap.EnvoyVersion, err error) {
	if path, err = envoy.FindBinary(a.cfg.DataplaneRuntime.BinaryPath); err != nil {
		return "", v, err
	}
	build, err := envoy.Version(ctx, path)
	if err != nil {
		return "", v, err
	}
	v = bootstrap.EnvoyVersion{Version: build.Version, Build: build.Full, KumaDPCompatible: build.Compatible(testedEnvoy)}
	a.log.Info("envoy found", "path", path, "version", build.Version, "tested", v.KumaDPCompatible)
	return path, v, nil
}
