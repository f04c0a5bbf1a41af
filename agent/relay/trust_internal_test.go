package relay

import "testing"

func FuzzTrustedSecret(f *testing.F) {
	f.Add([]byte("\x0a\x01x\x22\x05\x0a\x03\x12\x01a"), []byte("y"))
	f.Add([]byte{0x22, 0xff}, []byte("y"))
	f.Fuzz(func(t *testing.T, secret, content []byte) {
		out, err := withField(secret, content, 4, 1, 2)
		if err != nil {
			return
		}
		if got := trustedCA(out); string(got) != string(content) {
			t.Errorf("%x holds %q, want %q", out, got, content)
		}
	})
}
