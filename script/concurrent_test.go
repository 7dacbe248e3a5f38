package script_test

import (
	"bytes"
	"sync"
	"testing"
)

// One Channel serves many requests at once, and what one gets is its own to
// change.
func TestChannelIsSafeForConcurrentUse(t *testing.T) {
	for _, kind := range constructions {
		c := open(t, kind, "shared")
		want := rawTx(t, settle(t, 1000, c.claim(t, 500_000)))
		sig := c.half(t, 500_000)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				tx := settle(t, 1000, c.claim(t, 500_000))
				if !bytes.Equal(rawTx(t, tx), want) {
					t.Errorf("%s: another settlement", kind)
				}
				if err := c.VerifyHalf(500_000, sig); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
				clear(c.OutputScript())
				clear(c.Prevout().PkScript)
				for _, out := range tx.TxOut[:1] {
					clear(out.PkScript)
				}
				for _, in := range tx.TxIn {
					clear(in.SignatureScript)
					for _, item := range in.Witness {
						clear(item)
					}
				}
				refund := c.refund(t, 1000)
				for _, item := range refund.TxIn[0].Witness {
					clear(item)
				}
			})
		}
		all.Wait()
		if err := c.VerifyHalf(500_000, sig); err != nil {
			t.Errorf("%s: the half-signature was changed: %v", kind, err)
		}
		if got := rawTx(t, settle(t, 1000, c.claim(t, 500_000))); !bytes.Equal(got, want) {
			t.Errorf("%s: the channel was changed", kind)
		}
	}
}
