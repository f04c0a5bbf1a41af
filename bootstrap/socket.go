package bootstrap

// maxSocketPath leaves room for ".sock" in the 104 bytes that the smallest sun_path of any system holds.
const maxSocketPath = 98

// SocketPath is the path of a socket or pipe below workdir, such as "kuma-al-{name}-{mesh}". Agent and control plane compute
// it independently, so it must agree byte by byte: the whole path is cut at 98 bytes, then ".sock" is added (contract
// agent.md §4.1).
func SocketPath(workdir, base string) string {
	path := workdir + "/" + base
	if len(path) > maxSocketPath {
		path = path[:maxSocketPath]
	}
	return path + ".sock"
}
