package client

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// TestListFollowsPages: all pages are asked of the same control plane, wherever the next one is said to be.
func TestListFollowsPages(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("tag") != "a:b" {
			t.Errorf("query %s", r.URL.RawQuery)
		}
		n, _ := strconv.Atoi(r.FormValue("offset"))
		next := "null"
		if n < 2 {
			next = fmt.Sprintf(`"http://elsewhere.invalid/x?offset=%d"`, n+1)
		}
		fmt.Fprintf(w, `{"total":3,"items":[%d],"next":%s}`, n, next)
	}))
	defer s.Close()
	c := dial(t, APIServer{URL: s.URL})
	l, err := c.List(t.Context(), []string{"x"}, url.Values{"tag": {"a:b"}}, Page{})
	if err != nil || l.Total != 3 || len(l.Items) != 3 || l.Next != nil {
		t.Errorf("got %+v, %v", l, err)
	}
	l, err = c.List(t.Context(), []string{"x"}, url.Values{"tag": {"a:b"}}, Page{Size: 1, Offset: "1"})
	if err != nil || len(l.Items) != 1 || string(l.Items[0]) != "1" {
		t.Errorf("got %+v, %v", l, err)
	}
	if offset, err := l.Offset(); offset != "2" || err != nil {
		t.Errorf("got %q, %v", offset, err)
	}
}

// TestListEnds also when pages lead nowhere.
func TestListEnds(t *testing.T) {
	for _, next := range []string{`"http://x/"`, `"http://x/?offset=0"`, `"%"`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"total":3,"items":[1],"next":%s}`, next)
		}))
		_, err := dial(t, APIServer{URL: s.URL}).List(t.Context(), []string{"x"}, nil, Page{Offset: "0"})
		s.Close()
		if err == nil || !strings.Contains(err.Error(), "next page") {
			t.Errorf("%s: got %v", next, err)
		}
	}
}
