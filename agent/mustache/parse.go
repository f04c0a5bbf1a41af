package mustache

import (
	"fmt"
	"strings"
)

type kind uint8

const (
	text kind = iota
	escaped
	raw
	section
	inverted
)

// node is a piece of a template: text itself, or the name of what to put there.
type node struct {
	kind   kind
	text   string
	inside []node // of sections
}

// parser reads a template from pos on.
type parser struct {
	text        string
	pos         int
	open, close string // the delimiters at the moment
}

// parse reads up to the end of the section named, or of the template when the name is empty.
func (p *parser) parse(name string, depth int) ([]node, error) {
	if depth > maxDepth {
		return nil, p.errorf("sections are nested more than %d deep", maxDepth)
	}
	var nodes []node
	for {
		before, tag, err := p.next()
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node{text: before})
		if tag == "" {
			if name != "" {
				return nil, p.errorf("section %q is not closed", name)
			}
			return nodes, nil
		}
		rest := strings.TrimSpace(tag[1:])
		switch tag[0] {
		case '!':
		case '#', '^':
			n := node{kind: section, text: rest}
			if tag[0] == '^' {
				n.kind = inverted
			}
			if n.inside, err = p.parse(rest, depth+1); err != nil {
				return nil, err
			}
			nodes = append(nodes, n)
		case '/':
			if name == "" || rest != name {
				return nil, p.errorf("%q closes no section that is open", rest)
			}
			return nodes, nil
		case '>':
			return nil, p.errorf("partials are not supported: %q", rest)
		case '=':
			pair := strings.Fields(strings.TrimSuffix(rest, "="))
			if !strings.HasSuffix(rest, "=") || len(pair) != 2 {
				return nil, p.errorf("%q does not set delimiters", tag)
			}
			p.open, p.close = pair[0], pair[1]
		case '{':
			nodes = append(nodes, node{kind: raw, text: strings.TrimSpace(strings.TrimSuffix(rest, "}"))})
		case '&':
			nodes = append(nodes, node{kind: raw, text: rest})
		default:
			nodes = append(nodes, node{kind: escaped, text: tag})
		}
	}
}

// next returns the text up to a tag and what is in the tag; at the end of the template the tag is empty.
func (p *parser) next() (before, tag string, err error) {
	start := p.pos
	before, after, found := strings.Cut(p.text[start:], p.open)
	if !found {
		p.pos = len(p.text)
		return before, "", nil
	}
	p.pos += len(before) + len(p.open)
	end := p.close
	if strings.HasPrefix(after, "{") {
		end = "}" + end
	}
	inside, _, found := strings.Cut(after, end)
	if !found {
		return "", "", p.errorf("a tag is not closed")
	}
	p.pos += len(inside) + len(end)
	if tag = strings.TrimSpace(inside + strings.TrimSuffix(end, p.close)); tag == "" {
		return "", "", p.errorf("a tag is empty")
	}
	// A tag that prints nothing takes its line with it when it is alone there.
	text := strings.TrimRight(before, " \t")
	begins := start + len(text)
	if strings.ContainsRune("#^/>=!", rune(tag[0])) && (begins == 0 || p.text[begins-1] == '\n') && p.skipLine() {
		before = text
	}
	return before, tag, nil
}

// skipLine goes to the next line when nothing but blanks is left of this one.
func (p *parser) skipLine() bool {
	rest := strings.TrimLeft(p.text[p.pos:], " \t")
	end := strings.TrimPrefix(rest, "\r")
	if p.pos < len(p.text) && !strings.HasPrefix(end, "\n") {
		return false
	}
	p.pos = len(p.text) - len(strings.TrimPrefix(end, "\n"))
	return true
}

func (p *parser) errorf(format string, args ...any) error {
	line := 1 + strings.Count(p.text[:p.pos], "\n")
	return fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...))
}
