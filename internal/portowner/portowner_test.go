package portowner

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for _, tt := range []struct{ network, listen string }{
		{"tcp", "127.0.0.1:0"}, {"tcp", "0.0.0.0:0"}, {"tcp", "[::1]:0"}, {"udp", "127.0.0.1:0"}, {"udp", "[::1]:0"},
	} {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			addr := listen(t, tt.network, tt.listen)
			owners, err := Find(tt.network, addr.Port())
			if err != nil {
				t.Fatal(err)
			}
			if len(owners) != 1 || owners[0].PID != os.Getpid() || owners[0].Addr != addr || owners[0].Command == "" {
				t.Errorf("got %v, want this process on %s", owners, addr)
			}
			text := Explain(tt.network, addr.Port())
			for _, want := range []string{fmt.Sprint(addr.Port()), fmt.Sprintf("pid %d", os.Getpid()), addr.String()} {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not contain %q", text, want)
				}
			}
		})
	}
}

func listen(t *testing.T, network, addr string) netip.AddrPort {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	l, err := net.Listen("tcp"+family(addr), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func family(addr string) string {
	if strings.HasPrefix(addr, "[") {
		return "6"
	}
	return "4"
}

func TestFreePort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	l.Close()
	if owners, err := Find("tcp", port); err != nil || len(owners) != 0 {
		t.Errorf("got %v, %v", owners, err)
	}
	if got := Explain("tcp", port); !strings.Contains(got, "could not be found") {
		t.Errorf("got %q", got)
	}
}

func TestWithoutProc(t *testing.T) {
	if _, err := find(t.TempDir(), "tcp", 1); err == nil {
		t.Error("want an error")
	}
	if _, err := Find("sctp", 1); err == nil {
		t.Error("want an error")
	}
}

// A socket whose process may not be seen is reported all the same.
func TestHiddenOwner(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The address is 1.1.1.1, the same in every byte order.
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 01010101:26AD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n" +
		"   1: 01010101:26AD 01010101:0001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n"
	if err := os.WriteFile(filepath.Join(proc, "net", "tcp"), []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	owners, err := find(proc, "tcp", 9901)
	if err != nil || len(owners) != 1 || owners[0].PID != 0 || owners[0].Addr.String() != "1.1.1.1:9901" {
		t.Fatalf("got %v, %v", owners, err)
	}
	if got := owners[0].String(); !strings.Contains(got, "uid 0 that this user may not see") {
		t.Errorf("got %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("   0: 0100007F:26AD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"), "tcp")
	f.Add([]byte("   0: 00000000000000000000000001000000:26AD 0:0 07 0:0 0:0 0 0 0 4711\n"), "udp")
	f.Fuzz(func(t *testing.T, content []byte, network string) {
		for _, s := range parse(content, network) {
			if !s.addr.IsValid() {
				t.Errorf("address %v from %q", s.addr, content)
			}
		}
	})
}
