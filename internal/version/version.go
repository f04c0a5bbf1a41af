// Package version says what was built. The linker sets the variables (see Makefile).
package version

import "fmt"

var (
	// Version is what we report to a control plane, an agent, kumactl and the GUI: the Kuma release whose wire we speak,
	// so that peers of 2.9 find us compatible (contract agent.md §2.6), then our own release as semver build metadata.
	Version = "2.9.13+kdp.0.1.0"
	// GitTag is the tag that was built; it and those below are "unknown" in a build that was not stamped, as in Kuma.
	GitTag = "unknown"
	// GitCommit is the commit that was built.
	GitCommit = "unknown"
	// BuildDate is when it was built.
	BuildDate = "unknown"
)

// Product is the name in `GET /` and in `version --detailed`; kumactl of 2.9 expects it.
const Product = "Kuma"

// Short is the one line of `<command> version`.
func Short() string { return Product + ": " + Version }

// Detailed is the text of `<command> version --detailed` (contract agent.md §1.1).
func Detailed() string {
	text := ""
	for _, row := range [][2]string{
		{"Product:", Product}, {"Version:", Version}, {"Git Tag:", GitTag}, {"Git Commit:", GitCommit}, {"Build Date:", BuildDate},
	} {
		text += fmt.Sprintf("%-15s%s\n", row[0], row[1])
	}
	return text
}
