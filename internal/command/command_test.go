package command

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestExecute(t *testing.T) {
	special := errors.New("special")
	for _, tt := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{nil, 0, "Does things.", ""},
		{[]string{"version"}, 0, "Kuma: ", ""},
		{[]string{"version", "-a"}, 0, "Git Commit:", ""},
		{[]string{"version", "x"}, ExitUsage, "", "Error: unexpected argument \"x\": see --help of prog version\n"},
		{[]string{"nope"}, ExitUsage, "", "Error: unknown command \"nope\": see --help of prog\n"},
		{[]string{"version", "--nope"}, ExitUsage, "", "Error: unknown flag: --nope: see --help of prog version\n"},
		{[]string{"fail"}, ExitStart, "", "Error: it failed; in two; ways\n"},
		{[]string{"fail", "--special"}, 7, "", "Error: it failed: special\n"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var out, stderr bytes.Buffer
			var flag bool
			fail := &cobra.Command{Use: "fail", RunE: func(*cobra.Command, []string) error {
				if flag {
					return fmt.Errorf("it failed: %w", special)
				}
				return errors.Join(errors.New("it failed"), nil, errors.New("in two\r\nways"))
			}}
			fail.Flags().BoolVar(&flag, "special", false, "")
			root := Root("prog", "Short", "Does things.", Version(&out), fail)
			code := Execute(root, tt.args, Streams{Out: &out, Err: &stderr}, func(err error) int {
				if errors.Is(err, special) {
					return 7
				}
				return 0
			})
			if code != tt.code || !strings.Contains(out.String(), tt.out) || stderr.String() != tt.err {
				t.Errorf("got %d %q %q", code, out.String(), stderr.String())
			}
		})
	}
}

func TestNewLog(t *testing.T) {
	for level, want := range map[string]string{"off": "", "info": "i", "debug": "di"} {
		var out bytes.Buffer
		log, err := NewLog(&out, level)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("d")
		log.Info("i")
		got := ""
		for line := range strings.Lines(out.String()) {
			got += line[strings.Index(line, "msg=")+4:][:1]
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", level, got, want)
		}
	}
	if _, err := NewLog(nil, "loud"); err == nil || !strings.Contains(err.Error(), `unknown log level "loud"`) {
		t.Errorf("got %v", err)
	}
}
