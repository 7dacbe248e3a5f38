package sim

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/store"
)

// What is over too early, signed before it is saved, sold against a spent output or
// funded without a way back is noticed.
func TestRulesNotice(t *testing.T) {
	for want, breach := range map[string]func(*world, string){
		"a reorg may undo that": func(w *world, id string) {
			r := w.audit.payee[id]
			r.Phase = channel.Closed
			w.audit.saved(w.seller.process, []store.Op{record(t, bucketPayee, id, r)})
		},
		"whose output is spent": func(w *world, id string) {
			w.audit.spent[id] = w.now.Add(-time.Hour)
			r := w.audit.payee[id]
			r.Charged += w.story.price
			w.audit.saved(w.seller.process, []store.Op{record(t, bucketPayee, id, r)})
		},
		"which it has not saved": func(w *world, id string) {
			terms := w.audit.payee[id].Terms
			body, err := json.Marshal(bitcoin.CloseAnswer{Tx: spend(t, terms, 1_000, nil).Tx, PayeeNonce: make([]byte, 66), PayeePartial: make([]byte, 32)})
			if err != nil {
				t.Fatal(err)
			}
			w.audit.agreed(body)
		},
		"its refund is not signed": func(w *world, id string) {
			r := w.audit.payer[id]
			r.Terms.Construction, r.RefundSig, r.Phase = "multisig", nil, channel.Funding
			was := r
			was.Phase = channel.Prepared
			w.audit.funded(r, was)
		},
		"is on its way": func(w *world, id string) {
			r := w.audit.payer[id]
			tx := wire.NewMsgTx(3)
			tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint(r.Terms.Outpoint), Sequence: 0xfffffffd})
			tx.AddTxOut(&wire.TxOut{Value: int64(r.Terms.Capacity) - 5_000, PkScript: r.Terms.RestScript})
			w.chain.SkipScripts = true
			if err := w.chain.Broadcast(w.ctx, tx); err != nil {
				t.Fatal(err)
			}
			w.audit.spent[id] = w.now.Add(-time.Hour)
			w.audit.races(w.buyers[0].process, r)
		},
	} {
		t.Run(want, func(t *testing.T) {
			w, id := midway(t)
			breach(w, id)
			if !w.failed || !strings.Contains(strings.Join(w.result.Violations, "\n"), want) {
				t.Errorf("not noticed: %v", w.result.Violations)
			}
		})
	}
}
