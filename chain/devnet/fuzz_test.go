package devnet

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
)

// FuzzHTTP: no path and no body makes the handler fail in a way of its own; what is
// only asked, and what is refused, changes neither the chain nor the mempool.
func FuzzHTTP(f *testing.F) {
	n, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := n.Close(); err != nil {
			f.Error(err)
		}
	})
	genesis := n.params.GenesisHash.String()
	for _, p := range []string{"/tx/" + genesis + "/outspend/0", "/block/" + genesis + "/txs/0", "/blocks/5", "/address/x/utxo", "/scripthash/" + genesis + "/txs/chain/x", "/block-height/-1", "/fee-estimates", "/mempool"} {
		f.Add(false, p, "")
	}
	f.Add(true, "/tx", "020000000001")
	f.Add(true, "/faucet", `{"address":"bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202","sat":1000}`)
	f.Add(true, "/faucet", `{"script":"51","sat":-1}`)
	f.Add(true, "/mine", `{"blocks":2}`)
	f.Add(true, "/mine", `{"blocks":0}`)
	f.Add(true, "/reorg", `{"depth":1,"length":2,"drop":[""],"mine":["00"]}`)
	f.Add(true, "/reorg", `{"depth":1}`)
	state := func(t *testing.T) string {
		t.Helper()
		var s string
		if err := n.read(t.Context(), func() error {
			s = fmt.Sprint(n.idx.tip().hash, len(n.idx.main), len(n.idx.mempool()))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	h := n.Handler()
	f.Fuzz(func(t *testing.T, post bool, path, body string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		method := http.MethodGet
		if post {
			method = http.MethodPost
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		before := state(t)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %q %q: %d %s", method, path, body, w.Code, w.Body)
		}
		if after := state(t); after != before && (!post || w.Code != http.StatusOK) {
			t.Errorf("%s %q %q: %d, and the chain went from %s to %s", method, path, body, w.Code, before, after)
		}
	})
}

// FuzzASM: what a script is written as is read back as the same bytes, up to where it
// breaks off.
func FuzzASM(f *testing.F) {
	for _, s := range []string{"", "51", "0014" + strings.Repeat("ab", 20), "6a026869", "4c01ff", "4d0100ff", "4e01000000ff", "05aa", "ac", "b1b2", "ba", "fe", "4f60"} {
		raw, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	names := map[string]byte{}
	for op := range 256 {
		if op == 0 || op > txscript.OP_PUSHDATA4 {
			name := asm([]byte{byte(op)})
			if other, twice := names[name]; twice {
				f.Fatalf("%s names %d and %d", name, other, op)
			}
			names[name] = byte(op)
		}
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		text := asm(script)
		words := strings.Fields(text)
		back := []byte{}
		for i := 0; i < len(words); i++ {
			var n int
			word := words[i]
			op, ok := names[word]
			switch {
			case word == "<push":
				i = len(words)
				continue
			case ok:
				back = append(back, op)
				continue
			case strings.HasPrefix(word, "OP_PUSHBYTES_"):
				_, err := fmt.Sscanf(word, "OP_PUSHBYTES_%d", &n)
				if err != nil {
					t.Fatal(err)
				}
				back = append(back, byte(n))
			case strings.HasPrefix(word, "OP_PUSHDATA"):
				if i+1 < len(words) && len(words[i+1])%2 == 0 && !strings.HasPrefix(words[i+1], "OP_") {
					n = len(words[i+1]) / 2
				}
				size := map[string]int{"OP_PUSHDATA1": 1, "OP_PUSHDATA2": 2, "OP_PUSHDATA4": 4}[word]
				back = append(back, map[int]byte{1: 0x4c, 2: 0x4d, 4: 0x4e}[size])
				for k := range size {
					back = append(back, byte(n>>(8*k)))
				}
				if n == 0 {
					continue
				}
			default:
				t.Fatalf("%x is written %q: what is %q?", script, text, word)
			}
			i++
			data, err := hex.DecodeString(words[i])
			if err != nil || len(data) != n {
				t.Fatalf("%x is written %q: %d bytes, %v", script, text, n, err)
			}
			back = append(back, data...)
		}
		broken := strings.HasSuffix(text, "<push past end>")
		if broken && !strings.HasPrefix(string(script), string(back)) || !broken && string(back) != string(script) {
			t.Fatalf("%x is written %q, read as %x", script, text, back)
		}
		if kind := scriptType(script); kind == "" || kind == "v1_p2tr" != (len(script) == 34 && script[0] == 0x51 && script[1] == 32) {
			t.Fatalf("%x is %s", script, kind)
		}
	})
}
