package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxInput bounds a file to apply: far above a federation export.
const maxInput = 64 << 20

// source is one text to apply.
type source struct {
	// name is for messages, without what may be secret in a URL.
	name string
	text []byte
}

// read returns the texts that a value of -f means.
func (a *app) read(ctx context.Context, file string) ([]source, error) {
	if file == "-" {
		text, err := limited(a.stdin, "standard input")
		return []source{{"standard input", text}}, err
	}
	if strings.HasPrefix(file, "http://") || strings.HasPrefix(file, "https://") {
		return a.download(ctx, file)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	files := []string{file}
	if info.IsDir() {
		if files, err = directory(file); err != nil {
			return nil, err
		}
	}
	out := make([]source, len(files))
	for i, name := range files {
		out[i].name = name
		if out[i].text, err = readFile(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// directory lists the files of a directory that hold resources, by name; directories below it are left out.
func directory(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read resources: directory %s holds no .yaml, .yml or .json file", dir)
	}
	return out, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	defer f.Close()
	return limited(f, name)
}

func limited(in io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read resources of %s: %w", name, err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("read resources: %s is larger than %d bytes", name, maxInput)
	}
	return b, nil
}

// download gets a file by its URL. The credentials of the control plane are not sent there.
func (a *app) download(ctx context.Context, file string) ([]source, error) {
	u, err := url.Parse(file)
	if err != nil {
		return nil, errors.New("read resources: the URL of -f is not valid")
	}
	name := u.Redacted()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, file, nil)
	if err != nil {
		return nil, fmt.Errorf("read resources of %s: %w", name, err)
	}
	c := &http.Client{Timeout: a.timeout, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}}
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("read resources of %s: %w", name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read resources of %s: it answered %s", name, resp.Status)
	}
	text, err := limited(resp.Body, name)
	return []source{{name, text}}, err
}
