package identity

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/kuma-dp/kuma-dp/certs"
)

// readFile reads a PEM file. Errors name the file, never what is in it.
func readFile(path string) ([]byte, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a pipe would wait for a writer
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, certs.MaxPEM+1))
	if err == nil && len(b) > certs.MaxPEM {
		err = fmt.Errorf("%s has more than %d bytes", path, certs.MaxPEM)
	}
	return b, info.Mode(), err
}
