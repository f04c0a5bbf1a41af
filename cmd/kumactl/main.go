// Command kumactl is the command line of the control plane: it reads, writes and deletes resources, issues tokens, and
// sets up the redirection of traffic on this host.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr)) }
