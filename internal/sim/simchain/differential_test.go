package simchain_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/internal/sim/simchain"
)

// twins are the embedded node and the model, which get the same.
type twins struct {
	rng    *rand.Rand
	n      *devnet.Node
	c      *simchain.Chain
	key    *btcec.PrivateKey
	script []byte
	plain  bool // draw what is in order
	now    time.Time
	floor  time.Time // of the node's clock: it never goes back
	made   []*wire.MsgTx
	seen   map[string]int // what was answered, by class
}

func newTwins(t testing.TB, seed uint64) *twins {
	w := &twins{rng: rand.New(rand.NewPCG(seed, 9)), now: time.Unix(simchain.StartTime, 0), seen: map[string]int{}}
	var err error
	if w.n, err = devnet.New(devnet.Config{Now: func() time.Time { return w.now }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.n.Close(); err != nil {
			t.Error(err)
		}
	})
	tip, err := w.n.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.floor = tip.Time
	w.c = simchain.NewAt(tip.Height, tip.Time)
	w.c.Rules = simchain.Embedded
	w.c.SetTime(func() time.Time {
		if w.now.Before(w.floor) {
			return w.floor
		}
		return w.now
	})
	w.key, _ = btcec.PrivKeyFromBytes([]byte{31: 5})
	if w.script, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(w.key.PubKey())); err != nil {
		t.Fatal(err)
	}
	return w
}

// classes are what refusals have in common, in either's words.
var classes = []struct{ says, class string }{
	{"non-BIP68-final", "relative lock"}, {"non-final", "lock"}, {"bad-txns-nonfinal", "lock"}, {"dust", "dust"},
	{"bad-txns-inputs-missingorspent", "missing"}, {"min relay fee not met", "low fee"}, {"insufficient fee", "replacement fee"},
	{"txn-mempool-conflict", "conflict"}, {"version", "version"}, {"tx-size-small", "small"}, {"scriptpubkey", "output form"},
	{"bad-txns-nonstandard-inputs", "input form"}, {"bad-txns-input-script-unknown", "input form"}, {"mandatory-script-verify", "script"}, {"mempool-script-verify", "script"},
	{"failed to validate", "script"}, {"signature", "script"}, {"bad-txns-in-belowout", "amount"}, {"which is less than the amount", "amount"},
	{"less than spent amount", "amount"}, {"total value of all transaction inputs", "amount"},
	{"bad-txns-spends-conflicting-tx", "spends what it replaces"}, {"replacement transaction spends parent", "spends what it replaces"},
	{"replacement-adds-unconfirmed", "new unconfirmed"}, {"spends new unconfirmed", "new unconfirmed"},
	{"multi-op-return", "data"}, {"nulldata", "data"}, {"bad-txns-inputs-duplicate", "twice"}, {"duplicate inputs", "twice"},
	{"bad-txns-vout-toolarge", "too much"}, {"higher than max allowed value", "too much"}, {"Unspendable output exceeds", "too much"}, {"bad-txns-vout-negative", "negative"}, {"has negative value", "negative"}, {"premature", "premature"},
	{"TRUC-violation", "version 3"}, {"truc-", "version 3"}, {"too-long-mempool-chain", "long chain"}, {"too many potential replacements", "many"},
}

func class(t testing.TB, err error) string {
	var reject *chain.RejectError
	switch {
	case err == nil:
		return "accepted"
	case !errors.As(err, &reject):
		t.Fatalf("no refusal: %v", err)
	}
	for _, c := range classes {
		if strings.HasPrefix(reject.Reason, c.says) {
			return c.class
		}
	}
	for _, c := range classes {
		if strings.Contains(reject.Reason, c.says) {
			return c.class
		}
	}
	t.Fatalf("a refusal of no known class: %s", reject.Reason)
	return ""
}

// both gives a transaction to both.
func (w *twins) both(t testing.TB, tx *wire.MsgTx) {
	w.made = append(w.made, tx)
	theirs, ours := w.n.Broadcast(t.Context(), tx), w.c.Broadcast(t.Context(), tx)
	if class(t, theirs) != class(t, ours) {
		t.Fatalf("the node says %v, the model %v", theirs, ours)
	}
	w.seen[class(t, ours)]++
}

// fund pays from the faucet; what that spends becomes coins of the model.
func (w *twins) fund(t testing.TB) {
	id, err := w.n.Faucet(t.Context(), w.script, 20_000+w.rng.Int64N(1_000_000))
	if err != nil {
		t.Fatal(err)
	}
	info, err := w.n.Tx(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range info.Tx.TxIn {
		op := in.PreviousOutPoint
		if _, err := w.c.Tx(t.Context(), op.Hash); err == nil {
			continue
		}
		from, err := w.n.Tx(t.Context(), op.Hash)
		if err != nil {
			t.Fatal(err)
		}
		w.c.Coin(op, from.Tx.TxOut[op.Index])
	}
	w.both(t, info.Tx)
}

// mine mines on both, at the same time.
func (w *twins) mine(t testing.TB) {
	for range 1 + w.rng.IntN(4) {
		if _, err := w.n.Mine(1); err != nil {
			t.Fatal(err)
		}
		w.c.Mine(nil)
		w.tick(t)
	}
}

// tick takes over the new tip's time.
func (w *twins) tick(t testing.TB) {
	tip, err := w.n.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.floor = tip.Time
}

// block mines one transaction past the mempool.
func (w *twins) block(t testing.TB) {
	tx := w.direct(t)
	_, theirs := w.n.MineBlock(tx)
	w.sameBlock(t, "block", theirs, w.c.MineTxs(tx))
	w.made = append(w.made, tx)
}

func (w *twins) sameBlock(t testing.TB, what string, theirs, ours error) {
	if (theirs == nil) != (ours == nil) || theirs != nil && (!errors.Is(theirs, devnet.ErrBlock) || !errors.Is(ours, simchain.ErrBlock)) {
		t.Fatalf("%s: the node says %v, the model %v", what, theirs, ours)
	}
	if ours == nil {
		w.seen[what]++
	} else {
		w.seen[what+" refused"]++
	}
	w.tick(t)
}

func (w *twins) reorg(t testing.TB) {
	depth := 1 + w.rng.IntN(one(w.rng, 3, 8, 100))
	o := devnet.ReorgOptions{Depth: depth, Length: depth + 1 + w.rng.IntN(3)}
	if w.rng.IntN(4) == 0 {
		o.Drop = append(o.Drop, one(w.rng, w.made...).TxHash())
	}
	if w.rng.IntN(3) == 0 {
		o.Mine = append(o.Mine, w.direct(t))
		w.made = append(w.made, o.Mine...)
	}
	_, theirs := w.n.ReorgWith(o)
	_, ours := w.c.ReorgWith(simchain.ReorgOptions{Depth: o.Depth, Length: o.Length, Drop: o.Drop, Mine: o.Mine})
	w.sameBlock(t, "reorg", theirs, ours)
}

// agree compares all that can be asked.
func (w *twins) agree(t testing.TB) {
	a, err := w.n.Tip(t.Context())
	b, err2 := w.c.Tip(t.Context())
	if err != nil || err2 != nil || a.Height != b.Height || !a.Time.Equal(b.Time) {
		t.Fatalf("tips: the node is at %d, %v, the model at %d, %v", a.Height, a.Time, b.Height, b.Time)
	}
	for _, tx := range w.made {
		w.agreeTx(t, tx)
	}
	if theirs, ours := w.utxos(t, w.n), w.utxos(t, w.c); !slices.Equal(theirs, ours) {
		t.Fatalf("coins of the node:\n%s\nof the model:\n%s", strings.Join(theirs, "\n"), strings.Join(ours, "\n"))
	}
	if theirs, ours := w.history(t, w.n), w.history(t, w.c); !slices.Equal(theirs, ours) {
		t.Fatalf("history of the node:\n%s\nof the model:\n%s", strings.Join(theirs, "\n"), strings.Join(ours, "\n"))
	}
	answer := httptest.NewRecorder()
	w.n.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/mempool/txids", nil))
	var theirs, ours []string
	if err := json.Unmarshal(answer.Body.Bytes(), &theirs); err != nil {
		t.Fatal(err)
	}
	for _, tx := range w.c.Mempool() {
		ours = append(ours, tx.TxHash().String())
	}
	slices.Sort(theirs)
	slices.Sort(ours)
	if !slices.Equal(theirs, ours) {
		t.Fatalf("mempool of the node:\n%s\nof the model:\n%s", strings.Join(theirs, "\n"), strings.Join(ours, "\n"))
	}
}

func (w *twins) agreeTx(t testing.TB, tx *wire.MsgTx) {
	id := tx.TxHash()
	a, lost := w.n.Tx(t.Context(), id)
	b, lost2 := w.c.Tx(t.Context(), id)
	if errors.Is(lost, chain.ErrNotFound) != errors.Is(lost2, chain.ErrNotFound) || a.Confirmed != b.Confirmed || a.Height != b.Height {
		t.Fatalf("transaction %s: the node says %v at %d, %v, the model %v at %d, %v", id, a.Confirmed, a.Height, lost, b.Confirmed, b.Height, lost2)
	}
	for i := range tx.TxOut {
		op := wire.OutPoint{Hash: id, Index: uint32(i)}
		a, err := w.n.Spend(t.Context(), op)
		b, err2 := w.c.Spend(t.Context(), op)
		if err != nil || err2 != nil || (a == nil) != (b == nil) || a != nil && *a != *b {
			t.Fatalf("spend of %s: the node says %+v, the model %+v", op, a, b)
		}
	}
}

func (w *twins) utxos(t testing.TB, of chain.Backend) (all []string) {
	got, err := of.UTXOs(t.Context(), w.script)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range got {
		all = append(all, fmt.Sprint(u.Outpoint, u.Value, u.Confirmed, u.Height))
	}
	slices.Sort(all)
	return all
}

func (w *twins) history(t testing.TB, of chain.Backend) (all []string) {
	got, err := of.History(t.Context(), w.script)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range got {
		all = append(all, fmt.Sprint(i.Tx.TxHash(), i.Confirmed, i.Height))
	}
	slices.Sort(all)
	return all
}

// seeds is how many histories are played.
var seeds = flag.Uint64("histories", 60, "random histories of the differential test")

// TestModelAndNodeAgree: on the same random history of payments, conflicts,
// replacements, early locks, dust, low fees, blocks and reorgs the model and the
// embedded node say the same.
func TestModelAndNodeAgree(t *testing.T) {
	seen := map[string]int{}
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, seed, seen) })
	}
	t.Logf("%v", seen)
	for _, c := range classes {
		if !slices.Contains([]string{"small", "premature", "version 3", "long chain", "many"}, c.class) && seen[c.class] == 0 && *seeds >= 60 {
			t.Errorf("nothing was ever refused for its %q", c.class)
		}
	}
}

func play(t testing.TB, seed uint64, seen map[string]int) {
	w := newTwins(t, seed)
	w.seen = seen
	w.fund(t)
	for range 40 + w.rng.IntN(80) {
		w.now = w.now.Add(time.Duration(w.rng.IntN(7300)) * time.Second)
		switch n := w.rng.IntN(100); {
		case n < 8:
			w.fund(t)
		case n < 70:
			w.both(t, w.draw(t))
		case n < 74:
			w.both(t, one(w.rng, w.made...))
		case n < 88:
			w.mine(t)
		case n < 93:
			w.block(t)
		default:
			w.reorg(t)
		}
		w.agree(t)
	}
}
