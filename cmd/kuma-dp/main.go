// Command kuma-dp runs a data-plane proxy: Envoy with an agent beside it.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
