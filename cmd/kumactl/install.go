package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
)

// redirectionTime bounds installing and uninstalling as a whole, so that a lock held by somebody else never hangs a boot.
const redirectionTime = 30 * time.Second

// errNotRoot is Kuma's text (contract transparentproxy.md §1).
var errNotRoot = errors.New("you need to have root privileges to run this command")

// newInstallCommand makes `kumactl install`. Rules and results go to stdout, warnings to stderr.
func newInstallCommand(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install parts of the mesh on this host",
		Args:  onThisHost,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newInstallTransparentProxyCommand(stdout, stderr))
	return cmd
}

// onThisHost refuses what 2.9 installs on Kubernetes, and says so.
func onThisHost(cmd *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	return usage(cmd, fmt.Sprintf("cannot %s %s: this kumactl does so for the transparent-proxy of a host only; nothing is installed on Kubernetes", cmd.Name(), given[0]))
}

// installOptions is what the flags say.
type installOptions struct {
	config          tp.Config
	dryRun, verbose bool
	wait            uint
}

func newInstallTransparentProxyCommand(stdout, stderr io.Writer) *cobra.Command {
	o := installOptions{config: tp.DefaultConfig(), wait: uint(iptables.DefaultWait / time.Second)}
	cmd := &cobra.Command{
		Use:   "transparent-proxy",
		Short: "Redirect this host's traffic to Envoy",
		Long: `Redirect this host's TCP connections, and if asked its DNS queries, to Envoy and kuma-dp.

Traffic of the user that runs kuma-dp is left alone. Installing again replaces what is installed, without a moment
in which traffic passes by; rules of others are not touched. SSH is redirected like everything else: keep it out
with --exclude-inbound-ports 22.`,
		Example: `  # what would be done
  kumactl install transparent-proxy --kuma-dp-user kuma-dp --redirect-dns --dry-run

  # a host reached by SSH
  kumactl install transparent-proxy --kuma-dp-user kuma-dp --redirect-dns --exclude-inbound-ports 22`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("redirect-dns") && cmd.Flags().Changed("redirect-all-dns-traffic") {
				return errors.New("only one of '--redirect-dns' or '--redirect-all-dns-traffic' should be specified")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), redirectionTime)
			defer cancel()
			return install(ctx, o, stdout, stderr)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

// addFlags has the names, defaults and meanings of contract transparentproxy.md §1.
func (o *installOptions) addFlags(f *pflag.FlagSet) {
	c := &o.config
	f.BoolVar(&o.dryRun, "dry-run", false, "print the rules and change nothing")
	f.BoolVar(&o.verbose, "verbose", false, "print the rules with long option names and comments")
	f.Var(&modeFlag{&c.IPFamilyMode}, "ip-family-mode", "redirect 'dualstack' (IPv4 and IPv6) or 'ipv4'")
	f.StringVar(&c.User, "kuma-dp-user", "", "name or UID of the user that runs kuma-dp (default: UID 5678, or else the user kuma-dp)")
	f.StringVar(&c.User, "kuma-dp-uid", "", "name or UID of the user that runs kuma-dp")
	f.BoolVar(&c.Inbound.Enabled, "redirect-inbound", true, "redirect inbound traffic; switch it off on gateways")
	f.Var(portFlag{&c.Inbound.Port}, "redirect-inbound-port", "port on which Envoy takes inbound traffic")
	f.Var(portFlag{&c.Outbound.Port}, "redirect-outbound-port", "port on which Envoy takes outbound traffic")
	f.Var(&listFlag[tp.PortRange]{list: (*[]tp.PortRange)(&c.Inbound.ExcludePorts), name: "ports", parse: parsePorts},
		"exclude-inbound-ports", "ports of this host that are not redirected: a comma-separated list of ports and ranges a-b")
	f.Var(&listFlag[tp.PortRange]{list: (*[]tp.PortRange)(&c.Outbound.ExcludePorts), name: "ports", parse: parsePorts},
		"exclude-outbound-ports", "ports of others that are not redirected: a comma-separated list of ports and ranges a-b")
	f.Var(&listFlag[tp.UIDExclusion]{list: &c.Outbound.ExcludeUIDs, name: "[protocols:[ports:]]uids", parse: one(tp.ParseUIDExclusion)},
		"exclude-outbound-ports-for-uids", "traffic of users that is not redirected; may be repeated")
	f.Var(&listFlag[netip.Prefix]{list: &c.Inbound.ExcludeIPs, name: "addresses", parse: tp.ParseIPs},
		"exclude-inbound-ips", "addresses or ranges whose connections are not redirected; may be repeated")
	f.Var(&listFlag[netip.Prefix]{list: &c.Outbound.ExcludeIPs, name: "addresses", parse: tp.ParseIPs},
		"exclude-outbound-ips", "addresses or ranges to which connections are not redirected; may be repeated")
	f.BoolVar(&c.DNS.Enabled, "redirect-dns", false, "redirect DNS queries to the servers of /etc/resolv.conf to kuma-dp")
	f.BoolVar(&c.DNS.CaptureAll, "redirect-all-dns-traffic", false, "redirect every DNS query to kuma-dp")
	f.Var(portFlag{&c.DNS.Port}, "redirect-dns-port", "port on which kuma-dp answers DNS queries")
	f.BoolVar(&c.DNS.SkipZoneSplit, "skip-dns-conntrack-zone-split", false, "do not keep the queries of applications and kuma-dp apart in conntrack zones")
	f.Var(&listFlag[tp.VNet]{list: &c.VNets, name: "interface:network", parse: one(tp.ParseVNet)},
		"vnet", "network of containers behind an interface of this host to redirect as well; a name may end in +; may be repeated")
	f.BoolVar(&c.Inbound.Insert, "redirect-inbound-insert-instead-of-append", false, "put inbound redirection before rules of others")
	f.BoolVar(&c.Outbound.Insert, "redirect-outbound-insert-instead-of-append", false, "put outbound redirection before rules of others")
	f.BoolVar(&c.DropInvalid, "drop-invalid-packets", false, "drop packets that belong to no connection")
	f.BoolVar(&c.Log, "iptables-logs", false, "log the first packet of each connection to the kernel log")
	f.UintVar(&o.wait, "wait", o.wait, "seconds to wait for another iptables to finish; 0 does not wait")
	// Cannot fail: the flag is there.
	_ = f.MarkDeprecated("kuma-dp-uid", "use --kuma-dp-user")
}

// install works out the plan and applies or prints it.
func install(ctx context.Context, o installOptions, stdout, stderr io.Writer) error {
	root := os.Geteuid() == 0
	if !root && !o.dryRun {
		return errNotRoot
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	host, err := tp.Detect(o.config)
	if err != nil {
		return err
	}
	backend, err := iptables.New(ctx, iptables.Config{Log: log, Path: os.Getenv("PATH"), Wait: time.Duration(o.wait) * time.Second})
	if err == nil {
		err = backend.Facts(ctx, &host)
	}
	if err == nil && o.config.DNS.On() && !o.config.DNS.SkipZoneSplit && !o.dryRun {
		err = backend.ProbeZones(ctx, &host)
	}
	switch {
	case err != nil && !o.dryRun:
		return err
	case err != nil: // the rules can be printed all the same
		log.Warn("rules are printed without knowing the rules of this host", "error", err)
	case !root:
		log.Warn("installing needs root, printing does not")
	}
	plan, err := tp.NewPlan(o.config, host)
	if err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		log.Warn("redirection is limited", "reason", w)
	}
	if o.dryRun || o.verbose {
		if _, err := io.WriteString(stdout, plan.Text(tp.TextOptions{Verbose: o.verbose})); err != nil {
			return fmt.Errorf("print rules: %w", err)
		}
	}
	if o.dryRun {
		return nil
	}
	if err := backend.Apply(ctx, plan); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "transparent proxy set up successfully, you can now run kuma-dp using transparent-proxy")
	return err
}

func parsePorts(s string) ([]tp.PortRange, error) { return tp.ParsePorts(s) }

// one makes a parser of one value from a parser of a list of one.
func one[T any](parse func(string) (T, error)) func(string) ([]T, error) {
	return func(s string) ([]T, error) {
		v, err := parse(s)
		return []T{v}, err
	}
}

// listFlag collects values over repeated uses of a flag.
type listFlag[T any] struct {
	list  *[]T
	name  string
	parse func(string) ([]T, error)
	text  string
}

func (f *listFlag[T]) String() string { return f.text }
func (f *listFlag[T]) Type() string   { return f.name }

func (f *listFlag[T]) Set(s string) error {
	v, err := f.parse(s)
	if err != nil {
		return err
	}
	*f.list = append(*f.list, v...)
	if f.text != "" {
		f.text += ","
	}
	f.text += s
	return nil
}

// portFlag is a port from 1 to 65535.
type portFlag struct{ port *uint16 }

func (f portFlag) Type() string { return "port" }

func (f portFlag) String() string {
	if f.port == nil { // pflag asks a zero value for its default
		return ""
	}
	return strconv.Itoa(int(*f.port))
}

func (f portFlag) Set(s string) error {
	p, err := tp.ParsePorts(s)
	if err != nil {
		return err
	}
	if len(p) != 1 || p[0].First != p[0].Last {
		return fmt.Errorf("value '%s' is not one port", s)
	}
	*f.port = p[0].First
	return nil
}

// modeFlag is a family mode.
type modeFlag struct{ mode *tp.FamilyMode }

func (f *modeFlag) Type() string { return "mode" }

func (f *modeFlag) String() string {
	if f.mode == nil {
		return ""
	}
	return string(*f.mode)
}

func (f *modeFlag) Set(s string) (err error) {
	*f.mode, err = tp.ParseFamilyMode(s)
	return err
}
