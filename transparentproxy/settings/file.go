package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// stdin is the path that means the standard input.
const stdin = "-"

// readFiles reads the files and the inline settings, the later over the earlier.
func (l *loader) readFiles() error {
	inline := slices.Concat(l.Files, l.given(flagConfig))
	if file := l.given(flagConfigFile); file != nil {
		if len(inline) > 0 {
			l.warn("--config is ignored, since --config-file is given")
		}
		return l.file(file[0])
	}
	for _, c := range inline {
		if isInline(c) {
			if err := l.document("--config", []byte(c)); err != nil {
				return err
			}
			continue
		}
		for path := range strings.SplitSeq(c, ",") {
			if path = strings.TrimSpace(path); path == "" {
				continue
			}
			if err := l.file(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loader) file(path string) error {
	if path != stdin {
		if l.ReadFile == nil {
			return fmt.Errorf("read settings: no files can be read, not even %s", path)
		}
		b, err := l.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read settings: %w", err)
		}
		return l.document(path, b)
	}
	if l.Stdin == nil || l.stdinRead {
		return errors.New("read settings: the standard input can be read only once")
	}
	l.stdinRead = true
	b, err := io.ReadAll(l.Stdin)
	if err != nil {
		return fmt.Errorf("read settings from the standard input: %w", err)
	}
	return l.document("standard input", b)
}

// document reads one document of YAML, which JSON is a part of. Texts of scalars go to the settings as they are written, so
// that a port may be a number or a string.
func (l *loader) document(source string, text []byte) error {
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read settings of %s: %s", source, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if !errors.Is(d.Decode(&more), io.EOF) {
		return fmt.Errorf("read settings of %s: there is more than one document; keep the first", source)
	}
	l.files++
	if err := l.mapping("", doc.Content[0]); err != nil {
		return fmt.Errorf("read settings of %s: %w", source, err)
	}
	return nil
}

// mapping reads the object of a key; the empty key is the document.
func (l *loader) mapping(key string, n *yaml.Node) error {
	n = resolved(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return wrong(n, key, "want keys and values")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := resolved(n.Content[i]), resolved(n.Content[i+1])
		if name.Kind != yaml.ScalarNode {
			return wrong(name, key, "a key must be a text")
		}
		path := name.Value
		if key != "" {
			path = key + "." + path
		}
		if seen[path] {
			return wrong(name, path, "the key is given twice")
		}
		seen[path] = true
		var err error
		switch at := slices.IndexFunc(table, func(s setting) bool { return s.key == path }); {
		case at >= 0:
			err = l.scalars(&table[at], value)
		case len(below(path)) > 0:
			err = l.mapping(path, value)
		default:
			return wrong(name, path, "unknown key; known here: "+strings.Join(below(key), ", "))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scalars reads the value of a setting.
func (l *loader) scalars(s *setting, n *yaml.Node) error {
	if isNull(n) {
		return nil
	}
	items := []*yaml.Node{n}
	switch {
	case n.Kind == yaml.ScalarNode:
	case n.Kind == yaml.SequenceNode && s.reset != nil && !s.pairs:
		items = n.Content
	case n.Kind == yaml.MappingNode && s.pairs:
		items = n.Content
	case s.pairs:
		return wrong(n, s.key, "want names and paths")
	case s.reset != nil:
		return wrong(n, s.key, "want a value or a list of values")
	default:
		return wrong(n, s.key, "want one value")
	}
	var texts []string
	for i, item := range items {
		if item = resolved(item); item.Kind != yaml.ScalarNode {
			return wrong(item, s.key, "want a value in the list")
		}
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			texts[len(texts)-1] += ":" + item.Value
		} else {
			texts = append(texts, item.Value)
		}
	}
	if err := s.apply(l.draft, texts...); err != nil {
		return wrong(n, s.key, err.Error())
	}
	return nil
}

// below lists the names of the keys directly below one.
func below(key string) []string {
	prefix := key + "."
	if key == "" {
		prefix = ""
	}
	var out []string
	for _, s := range table {
		if rest, ok := strings.CutPrefix(s.key, prefix); ok {
			if name, _, _ := strings.Cut(rest, "."); !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func wrong(n *yaml.Node, key, problem string) error {
	if key != "" {
		problem = key + ": " + problem
	}
	return fmt.Errorf("line %d: %s", n.Line, problem)
}
