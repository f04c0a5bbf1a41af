// Package certs makes and checks what identities are made of: keys, certificate requests, SPIFFE names, certificate
// authorities, leaves, trust bundles and the moment to renew. It knows names and keys, not a mesh, and keeps no state:
// everything is a function of its arguments, time included. The agent and the control plane both use it.
package certs
