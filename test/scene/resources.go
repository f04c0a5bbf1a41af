//go:build linux

package scene

// Mesh turns on strict mTLS; its services are made from the Dataplanes.
const Mesh = `type: Mesh
name: default
meshServices:
  mode: Exclusive
mtls:
  enabledBackend: ca-1
  backends:
  - name: ca-1
    type: builtin
`

// Permission lets web, and nobody else, call backend.
const Permission = `type: MeshTrafficPermission
mesh: default
name: web-to-backend
spec:
  targetRef:
    kind: MeshSubset
    tags:
      kuma.io/service: backend
  from:
  - targetRef:
      kind: MeshSubset
      tags:
        kuma.io/service: web
    default:
      action: Allow
`

// ShortConnections has Envoys make new connections, with handshakes, all the time.
const ShortConnections = `type: MeshTimeout
mesh: default
name: short
spec:
  targetRef: {kind: Mesh}
  to:
  - targetRef: {kind: Mesh}
    default: {http: {maxConnectionDuration: 50ms}}
`
