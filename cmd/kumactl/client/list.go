package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
)

// pageSize is the largest that a control plane of 2.9 gives.
const pageSize = 1000

// List is a collection, or a page of one.
type List struct {
	Total int               `json:"total"`
	Items []json.RawMessage `json:"items"`
	Next  *string           `json:"next"`
}

// Offset returns where the next page begins, "" when there is none.
func (l *List) Offset() (string, error) {
	if l.Next == nil {
		return "", nil
	}
	u, err := url.Parse(*l.Next)
	if err != nil {
		return "", fmt.Errorf("read the address of the next page: %w", err)
	}
	offset := u.Query().Get("offset")
	if offset == "" {
		return "", errors.New("read the address of the next page: it leads nowhere")
	}
	return offset, nil
}

// Page says which part of a collection is wanted; the zero value is all of it.
type Page struct {
	Size   int
	Offset string
}

// List returns one page when page has a size, else all from its offset on.
func (c *Client) List(ctx context.Context, path []string, filter url.Values, page Page) (*List, error) {
	out := &List{Items: []json.RawMessage{}}
	offset := page.Offset
	for {
		query := maps.Clone(filter)
		if query == nil {
			query = url.Values{}
		}
		query.Set("size", strconv.Itoa(pageSize))
		if page.Size > 0 {
			query.Set("size", strconv.Itoa(page.Size))
		}
		if offset != "" {
			query.Set("offset", offset)
		}
		b, err := c.Do(ctx, http.MethodGet, path, query, nil)
		if err != nil {
			return nil, err
		}
		var p List
		if err := json.Unmarshal(b, &p); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		out.Total, out.Next = p.Total, p.Next
		out.Items = append(out.Items, p.Items...)
		if page.Size > 0 || p.Next == nil {
			return out, nil
		}
		// Only the offset is taken: the page itself is always asked of the same control plane.
		next, err := p.Offset()
		if err != nil {
			return nil, err
		}
		if next == offset || len(p.Items) == 0 {
			return nil, errors.New("read the address of the next page: it leads nowhere")
		}
		offset = next
	}
}
