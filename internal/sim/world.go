package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/watch"
)

// Result is what a run, or many, came to.
type Result struct {
	Seeds      int            `json:"seeds"`
	Events     int            `json:"events"`
	Crashes    int            `json:"crashes"`
	Reorgs     int            `json:"reorgs"`
	Faults     map[string]int `json:"faults"`
	Violations []string       `json:"violations"`
}

// Add adds another run.
func (r *Result) Add(o Result) {
	r.Seeds += o.Seeds
	r.Events += o.Events
	r.Crashes += o.Crashes
	r.Reorgs += o.Reorgs
	if r.Faults == nil {
		r.Faults = map[string]int{}
	}
	for k, n := range o.Faults {
		r.Faults[k] += n
	}
	r.Violations = append(r.Violations, o.Violations...)
}

// world is one run.
type world struct {
	ctx    context.Context
	seed   uint64
	rng    *rand.Rand
	result Result
	trace  func(string, ...any)
	chain  *Chain
	now    time.Time
	pol    channel.Policy

	payerKeys, payeeKeys *keys.Keyring
	payerDisk, payeeDisk *memory.Store
	payer                *payer.Payer
	payee                *payee.Payee
	payout               []byte

	story  story
	buyer  buyer
	seen   sums
	failed bool
}

// story is what kind of day it is.
type story struct {
	kind     script.Construction
	chunks   uint64
	price    uint64 // msat
	capacity uint64 // sat
	payer    string // honest, stops, vanishes
	payee    string // honest, vanishes
	at       uint64 // chunk at which somebody misbehaves
}

// sums are what the invariants compare from event to event.
type sums struct {
	paid, signed uint64
	delivered    map[uint64]bool
	verified     uint64 // msat
	due          uint64 // sat, paid when the settlement was mined
	reorged      bool
}

var errFault = errors.New("the disk failed")

func newWorld(seed uint64, trace func(string, ...any)) *world {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	if trace == nil {
		trace = func(string, ...any) {}
	}
	w := &world{
		ctx: context.Background(), seed: seed, rng: rand.New(rand.NewChaCha8(key)), trace: trace, chain: NewChain(),
		now: time.Unix(1_700_000_000, 0), pol: channel.DefaultPolicy("regtest"),
		payerDisk: memory.New(), payeeDisk: memory.New(), result: Result{Seeds: 1, Faults: map[string]int{}},
	}
	w.seen.delivered = map[uint64]bool{}
	w.pol.Duration, w.pol.Useful = 80+w.rng.Uint32N(120), 10
	w.payerKeys = ring("abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about")
	w.payeeKeys = ring("legal winner thank year wave sausage worth useful legal winner thank yellow")
	_, w.payout, _ = w.payeeKeys.WalletKey(false, 0)
	w.draw()
	w.restartPayer()
	w.restartPayee()
	return w
}

func ring(words string) *keys.Keyring {
	k, err := keys.FromMnemonic(words, &chaincfg.RegressionNetParams)
	if err != nil {
		panic(err) // fixed words
	}
	return k
}

// draw draws the day.
func (w *world) draw() {
	kinds := []script.Construction{script.Taproot, script.Taproot, script.Multisig, script.MultisigP2SH}
	s := story{kind: kinds[w.rng.IntN(len(kinds))], chunks: 3 + w.rng.Uint64N(25), price: 1_000 * (200 + w.rng.Uint64N(5000)), payer: "honest", payee: "honest"}
	if w.rng.IntN(4) == 0 {
		s.price += w.rng.Uint64N(1000) // not whole satoshi
	}
	s.capacity = channel.CeilSat(s.chunks*s.price) + 5_000 + w.rng.Uint64N(50_000)
	s.at = w.rng.Uint64N(s.chunks)
	switch w.rng.IntN(6) {
	case 0:
		s.payer = "stops"
	case 1:
		s.payer = "vanishes"
	case 2:
		s.payee = "vanishes"
	}
	w.story = s
	w.trace("a %s channel of %d sat, %d chunks of %d msat; the payer is %s, the payee %s (chunk %d), expiry in %d blocks",
		s.kind, s.capacity, s.chunks, s.price, s.payer, s.payee, s.at, w.pol.Duration)
}

func (w *world) must(err error) {
	if err != nil {
		w.violate("a driver cannot start: %v", err)
	}
}

func (w *world) restartPayer() {
	var err error
	w.payer, err = payer.New(payer.Config{Store: w.payerDisk, Keys: w.payerKeys, Wallet: w, Chain: w.chain, Network: "regtest", Policy: w.pol, Rand: dice{w.rng}})
	w.must(err)
}

func (w *world) restartPayee() {
	var err error
	w.payee, err = payee.New(payee.Config{
		Store: w.payeeDisk, Keys: w.payeeKeys, Chain: w.chain, Network: "regtest", Payout: w.payout, Policy: w.pol,
		Dearest: func() uint64 { return w.story.price }, Now: func() time.Time { return w.now }, Rand: dice{w.rng},
	})
	w.must(err)
}

// dice is the seed's randomness as a reader.
type dice struct{ rng *rand.Rand }

func (d dice) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(d.rng.Uint32())
	}
	return len(p), nil
}

// Fund implements the payer's wallet: a coin that fits, spent to the outputs.
func (w *world) Fund(_ context.Context, outputs []*wire.TxOut, rate script.FeeRate) (*wallet.Funded, error) {
	op := wire.OutPoint{Hash: chainhash.HashH(binary.LittleEndian.AppendUint64(nil, w.rng.Uint64()))}
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: script.Sequence, Witness: wire.TxWitness{make([]byte, 64)}})
	fee := rate.Fee(160)
	total := fee
	for _, out := range outputs {
		tx.AddTxOut(out)
		total += out.Value
	}
	pk, err := w.ReceiveScript(w.ctx)
	if err != nil {
		return nil, err
	}
	prev := &wire.TxOut{Value: total, PkScript: pk}
	w.chain.Coin(op, prev)
	return &wallet.Funded{Tx: tx, Fee: fee, Prevouts: map[wire.OutPoint]*wire.TxOut{op: prev}, ChangeIndex: -1}, nil
}

// Release implements the payer's wallet.
func (w *world) Release(context.Context, *wire.MsgTx) error { return nil }

// ReceiveScript implements the payer's wallet.
func (w *world) ReceiveScript(context.Context) ([]byte, error) {
	key, _ := btcec.PrivKeyFromBytes(chainhash.HashB(binary.LittleEndian.AppendUint64(nil, w.rng.Uint64())))
	return txscript.NewScriptBuilder().AddOp(txscript.OP_1).AddData(schnorr.SerializePubKey(key.PubKey())).Script()
}

func (w *world) violate(format string, args ...any) {
	w.failed = true
	text := fmt.Sprintf("seed %d: ", w.seed) + fmt.Sprintf(format, args...)
	w.result.Violations = append(w.result.Violations, text)
	w.trace("VIOLATION %s", text)
}

func (w *world) fault(kind string) { w.result.Faults[kind]++ }

// crash kills one side; only its disk stays.
func (w *world) crash(side string) {
	w.result.Crashes++
	w.fault("crash-" + side)
	w.trace("  the %s is killed and starts again", side)
	if side == "payer" {
		w.restartPayer()
		w.buyer.forget()
		return
	}
	w.restartPayee()
}

// watchPayer and watchPayee are one look of each side's watch.
func (w *world) watchPayer() {
	if w.story.payer == "vanishes" && w.buyer.gone {
		return
	}
	err := (&watch.Watch{Chain: w.chain, Drivers: []watch.Driver{w.payer}}).Step(w.ctx)
	w.afterDisk("payer", err)
}

func (w *world) watchPayee() {
	if w.story.payee == "vanishes" && w.buyer.alone {
		return
	}
	err := (&watch.Watch{Chain: w.chain, Drivers: []watch.Driver{w.payee}}).Step(w.ctx)
	w.afterDisk("payee", err)
}

// afterDisk restarts a side whose save failed: what it knows in memory is not
// what is on its disk.
func (w *world) afterDisk(side string, err error) bool {
	if errors.Is(err, errFault) {
		w.fault("disk-" + side)
		w.trace("  the %s's disk failed: %v", side, err)
		w.crash(side)
		return true
	}
	if err != nil {
		w.trace("  %s: %v", side, err)
	}
	return err != nil
}
