package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/internal/sim/simdisk"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/watch"
)

// errNap: the buyer's process gave up waiting; it tries again at a later event.
var errNap = errors.New("the buyer comes back later")

// job is what a buyer's journal on its disk says.
type job struct {
	File    int
	Next    uint64 // first chunk that is not verified and signed for
	Channel string // "" none
	Stage   string // "", "buying", "leaving"
	Left    []string
	GivenUp []string // openings whose coins are spent elsewhere
	Done    int      // files that are whole
}

// buyer is a payer's process: driver, client, watch and a journal.
type buyer struct {
	*process
	n      int
	keys   *keyCache
	payer  *payer.Payer
	client *paywall.Client
	watch  *watch.Watch
	job    *job              // nil: to be read from the disk
	parts  map[int][]byte    // what was verified, by file; synced before the journal says so
	told   map[string]uint64 // msat that the payee says it charged, by channel
	paid   bool              // the last payment of the channel that is left got through
	gone   bool              // it vanished, or has all it wants
	coins  uint64
	deaf   bool // a cheat that does not take answers

	exports map[string][]byte // of its channels, kept apart from its disk
	pending []string          // channels whose exports are to be read back
	returns int               // how often it lost its disk

	copied      *simdisk.Snapshot // an old copy of its disk
	copiedParts map[int][]byte    // and of what was verified
}

// start begins the process on what is on its disk.
func (b *buyer) start() {
	b.disk.opened()
	b.dead, b.job, b.paid, b.told = false, nil, false, map[string]uint64{}
	var err error
	b.payer, err = payer.New(payer.Config{
		Store: b.disk, Keys: b.keys, Wallet: b, Chain: b.link, Network: "regtest", Policy: b.w.pol, Rand: dice{b.w}, Keep: b.keep(),
	})
	b.w.must(err)
	b.client, err = paywall.NewClient(paywall.ClientConfig{
		HTTP: &http.Client{Transport: &line{b}}, Payer: b.payer, Network: "regtest", Now: b.Now, Sleep: b.sleep,
		Stall: 100 * time.Hour, Rand: dice{b.w},
	})
	b.w.must(err)
	b.watch = &watch.Watch{Chain: b.link, Drivers: []watch.Driver{b.payer}}
}

// sleep is what the client does between two tries.
func (b *buyer) sleep(_ context.Context, d time.Duration) error {
	if b.dead {
		return errKilled
	}
	b.w.now = b.w.now.Add(d)
	if b.w.rng.IntN(2) == 0 {
		return errNap
	}
	return nil
}

// look is one step of the payer's watch.
func (b *buyer) look() {
	if b.away() || b.dead || b.vanished() {
		return
	}
	if err := b.watch.Step(b.w.ctx); err != nil {
		b.w.tell("  %s's watch: %.300v", b.name, err)
	}
}

func (b *buyer) dishonest() bool { return b.n == maxBuyers || b.n == 0 && b.w.story.payer != "honest" }
func (b *buyer) vanished() bool  { return b.n == 0 && b.w.story.payer == "vanishes" && b.gone }

const bucketJob = "sim/job"

// load reads the journal.
func (b *buyer) load() error {
	if b.job != nil {
		return nil
	}
	e, err := b.disk.Get(b.w.ctx, bucketJob, "job")
	if errors.Is(err, store.ErrNotFound) {
		b.job = &job{}
		return nil
	} else if err != nil {
		return err
	}
	b.job = &job{}
	return json.Unmarshal(e.Value, b.job)
}

func (j job) op() store.Op {
	raw, err := json.Marshal(j)
	if err != nil {
		panic(err) // numbers and strings
	}
	return store.Op{Bucket: bucketJob, Key: "job", Value: raw, Expect: store.Any}
}

// save saves the journal alone.
func (b *buyer) save(next job) bool {
	if err := b.disk.Commit(b.w.ctx, next.op()); err != nil {
		b.job = nil // what is on the disk is read again
		return false
	}
	b.job = &next
	return true
}

// expect is what a buyer agrees to.
func (b *buyer) expect() paywall.Expect {
	return paywall.Expect{Check: func(q *paywall.Quoted) error {
		d := q.Request.MethodDetails
		switch {
		case q.Request.Amount*1000 != b.w.story.price*d.UnitsPerAmount:
			return fmt.Errorf("%w: %d sat for %d", paywall.ErrPriceChanged, q.Request.Amount, d.UnitsPerAmount)
		case d.MinimumCharge > maxMinimum:
			return fmt.Errorf("%w: a minimum charge of %d sat", paywall.ErrPriceChanged, d.MinimumCharge)
		}
		return nil
	}}
}

// maxMinimum is the highest minimum charge, in sat, that a buyer agrees to.
const maxMinimum = 60_000

func (b *buyer) url(f *file, chunk uint64) string {
	return fmt.Sprintf("http://%s/%s?chunk=%d", realm, f.name, chunk)
}

func (b *buyer) limits() channel.Limits {
	return channel.Limits{Budget: math.MaxUint64, Prepay: b.w.story.prepay}
}

// step is the next thing that a buyer has to do.
func (b *buyer) step() {
	if b.gone || b.away() || b.dead || b.readBack() {
		return
	}
	if err := b.load(); err != nil {
		b.w.tell("  %s: %v", b.name, err)
		return
	}
	switch j := *b.job; {
	case j.Stage == "" && (b.w.last || j.Done >= b.w.story.files):
		b.gone = true
		b.w.tell("%s has all it wants", b.name)
	case j.Stage == "":
		j.File, j.Next, j.Stage = b.w.rng.IntN(len(b.w.seller.files)), 0, "buying"
		b.w.tell("%s wants file %d", b.name, j.File)
		b.save(j)
	case j.Stage == "leaving":
		b.leave()
	case j.Channel == "":
		b.findChannel()
	case j.Next >= b.file().chunks:
		b.finish(j)
	default:
		b.chunk(j.Next)
	}
}

func (b *buyer) file() *file { return b.w.seller.files[b.job.File] }

// finish ends a purchase: the file is whole. The channel is left, or kept for the
// next file.
func (b *buyer) finish(j job) {
	f := b.file()
	if !bytes.Equal(b.parts[j.File], f.data) {
		b.w.violate("%s finished a file that is not what was for sale", b.name)
		return
	}
	j.Done++
	if b.w.story.keep && !b.w.last && j.Done < b.w.story.files {
		j.Stage = ""
	} else {
		j.Stage = "leaving"
	}
	if b.save(j) {
		delete(b.parts, j.File)
		b.w.done("file")
		b.w.tell("%s has the whole file", b.name)
	}
}

// findChannel goes on with a channel that is there, or opens another one.
func (b *buyer) findChannel() {
	records, err := b.payer.Records(b.w.ctx)
	if err != nil {
		return
	}
	for _, r := range records {
		id := r.Terms.ID()
		if slices.Contains(b.job.Left, id) || r.Phase != channel.Prepared && r.CanBuy(b.w.story.price) != nil {
			continue
		}
		if !r.Accepted {
			b.reopen(r)
			return
		}
		b.use(id)
		return
	}
	if b.w.story.payer == "vanishes" && b.w.vanished || b.w.last && b.w.vanished {
		b.gone = true
		return
	}
	q, err := b.client.Quote(b.w.ctx, b.url(b.file(), 0), b.expect())
	if err != nil {
		b.w.tell("%s asks for the price: %v", b.name, err)
		return
	}
	capacity := max(channel.CeilSat(b.file().chunks*b.w.story.price)+2*channel.MinimumPayout, q.Offer.MinDeposit) + b.w.rng.Uint64N(b.w.story.spare)
	id, err := b.client.Open(b.w.ctx, q, b.w.story.kind, capacity, b.expect(), nil)
	b.w.tell("%s opens %.12s with %d sat: %v", b.name, id, capacity, err)
	if err == nil {
		b.use(id)
	}
}

func (b *buyer) use(id string) {
	j := *b.job
	j.Channel = id
	b.save(j)
}

// chunk asks for a chunk with the newest update, verifies it, and signs for it.
func (b *buyer) chunk(i uint64) {
	id, f := b.job.Channel, b.file()
	if b.misbehaves(i) {
		return
	}
	r, err := b.payer.Record(b.w.ctx, id)
	if err != nil {
		return
	}
	if err := r.CanBuy(f.price); err != nil {
		b.turn(id, err)
		return
	}
	u := channel.Update{Amount: r.Signed, Signature: r.Signature}
	resp, rec, err := b.client.Fetch(b.w.ctx, paywall.Paid{Channel: id, URL: b.url(f, i), Update: u, Expect: b.expect()})
	b.w.tell("%s asks for chunk %d of %d with %d sat: charged %d msat, paid %d sat, %v", b.name, i, f.chunks, u.Amount, rec.ChargedMsat, rec.AcceptedCumulative, err)
	if err != nil {
		b.refused(id, f, err)
		return
	}
	b.told[id] = rec.ChargedMsat
	part := buffer(b.parts[b.job.File])
	if part == nil {
		part = make(buffer, len(f.data))
	}
	err = errors.Join(bao.DecodeSlice(b.w.ctx, part, resp.Body, f.slice(i), nil), resp.Body.Close())
	if err != nil {
		b.w.tell("  what came is not chunk %d: %v", i, err)
		b.w.fault("unverified-content")
		return
	}
	b.parts[b.job.File] = part
	b.w.audit.verify(id, f.price)
	b.pay(id, f, i)
}

// pay takes a chunk into the ledger and signs for it, with the journal.
func (b *buyer) pay(id string, f *file, i uint64) {
	if b.n == 0 && b.w.story.payer == "stops" && b.job.Done*100+int(i) >= int(b.w.story.at) {
		b.w.tell("%s keeps the chunk and pays no more", b.name)
		b.w.fault("payer-stops")
		b.gone = true
		return
	}
	r, err := b.payer.Record(b.w.ctx, id)
	if err != nil {
		return
	}
	price := min(f.price, b.told[id]-min(b.told[id], r.Owed)) // what was charged before is not paid again
	next := *b.job
	next.Next = i + 1
	u, err := b.payer.Pay(b.w.ctx, id, payer.Payment{Verified: price, Last: next.Next == f.chunks, Ops: []store.Op{next.op()}}, b.limits())
	if err != nil {
		b.w.tell("  %s signs nothing: %v", b.name, err)
		b.job = nil
		if errors.Is(err, channel.ErrAmountExceeds) || errors.Is(err, channel.ErrFinalized) {
			b.turn(id, err)
		}
		return
	}
	b.job = &next
	b.w.tell("  it is right, %s signs %d sat", b.name, u.Amount)
	b.w.done("chunk")
}

// refused reads a refusal of a chunk.
func (b *buyer) refused(id string, f *file, err error) {
	var want *paywall.InsufficientError
	switch {
	case errors.As(err, &want):
		b.ahead(id, f, want)
	case errors.Is(err, paywall.ErrExpiring), errors.Is(err, paywall.ErrGone), errors.Is(err, channel.ErrAmountExceeds):
		b.turn(id, err)
	}
}

// ahead signs what the payee wants before it delivers, at most this chunk.
func (b *buyer) ahead(id string, f *file, want *paywall.InsufficientError) {
	r, err := b.payer.Record(b.w.ctx, id)
	if err != nil || want.Required <= r.Signed || want.Required > channel.CeilSat(r.Owed+f.price) {
		return
	}
	ahead := min(r.Owed+f.price, want.Required*1000) - r.Owed
	u, err := b.payer.Pay(b.w.ctx, id, payer.Payment{Ahead: ahead}, b.limits())
	b.w.tell("  %s pays ahead, %d sat: %v", b.name, u.Amount, err)
	if errors.Is(err, channel.ErrAmountExceeds) || errors.Is(err, channel.ErrPrepay) {
		b.turn(id, err)
	}
}

// turn leaves a channel; what is missing is bought in another one.
func (b *buyer) turn(id string, why error) {
	if b.load() != nil {
		return
	}
	b.w.tell("  %s turns away from %.12s: %v", b.name, id, why)
	j := *b.job
	j.Stage = "leaving"
	b.save(j)
}

// misbehaves lets somebody vanish.
func (b *buyer) misbehaves(i uint64) bool {
	if b.job.Done*100+int(i) < int(b.w.story.at) {
		return false
	}
	switch {
	case b.n == 0 && b.w.story.payer == "vanishes":
		b.w.tell("%s vanishes", b.name)
		b.w.fault("payer-vanishes")
		b.gone = true
	case b.w.story.payee == "vanishes" && !b.w.vanished:
		b.w.tell("the payee vanishes")
		b.w.fault("payee-vanishes")
		b.w.vanished = true
	}
	return b.gone
}

// leave makes the last payment of a channel and closes it.
func (b *buyer) leave() {
	id := b.job.Channel
	r, err := b.payer.Record(b.w.ctx, id)
	if err != nil {
		return
	}
	over := r.Phase.Final() || r.Phase == channel.Refunding || b.w.chain.Height() >= r.Terms.Expiry || r.SpentBy != ""
	switch {
	case over:
		b.left(id)
	case !b.paid:
		b.lastPayment(id)
	default:
		txid, err := b.client.Close(b.w.ctx, id, "", b.expect())
		b.w.tell("%s closes %.12s: %.12s %v", b.name, id, txid, err)
		if err == nil || !errors.Is(err, paywall.ErrUnreachable) && !errors.Is(err, errNap) && !errors.Is(err, errKilled) &&
			!errors.Is(err, store.ErrFailed) && !errors.Is(err, store.ErrFull) && !errors.Is(err, store.ErrReadOnly) {
			b.left(id)
		}
	}
}

// left takes note that nothing more happens on a channel from this side.
func (b *buyer) left(id string) {
	j := *b.job
	j.Left, j.Channel, j.Stage = append(slices.Clone(j.Left), id), "", "buying"
	if j.Next >= b.w.seller.files[j.File].chunks || b.w.last && b.w.vanished {
		j.Stage = ""
	}
	if b.save(j) {
		b.paid = false
	}
}

func (b *buyer) lastPayment(id string) {
	u, err := b.payer.Pay(b.w.ctx, id, payer.Payment{Last: true}, b.limits())
	if errors.Is(err, channel.ErrFinalized) || errors.Is(err, channel.ErrAmountExceeds) {
		u, err = b.payer.Newest(b.w.ctx, id)
	}
	if err != nil {
		b.w.tell("%s signs no last payment: %v", b.name, err)
		return
	}
	rec, err := b.client.Voucher(b.w.ctx, paywall.Paid{Channel: id, URL: b.url(b.file(), 0), Update: u, Expect: b.expect()})
	b.w.tell("%s pays the last of it, %d sat: paid %d sat, %v", b.name, u.Amount, rec.AcceptedCumulative, err)
	b.paid = err == nil || errors.Is(err, paywall.ErrGone)
}

// Fund implements the payer's wallet: a coin that fits, spent to the outputs.
func (b *buyer) Fund(_ context.Context, outputs []*wire.TxOut, rate script.FeeRate) (*wallet.Funded, error) {
	b.coins++
	op := wire.OutPoint{Hash: chainhash.HashH(binary.LittleEndian.AppendUint64([]byte{byte(b.n)}, b.coins))}
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: script.Sequence, Witness: wire.TxWitness{anybody}})
	fee := rate.Fee(160)
	total := fee
	for _, out := range outputs {
		tx.AddTxOut(out)
		total += out.Value
	}
	prev := &wire.TxOut{Value: total, PkScript: anybodyScript}
	b.w.chain.Coin(op, prev)
	return &wallet.Funded{Tx: tx, Fee: fee, Prevouts: map[wire.OutPoint]*wire.TxOut{op: prev}, ChangeIndex: -1}, nil
}

// anybody is a witness script that everybody can spend; its output is segwit.
var (
	anybody       = []byte{txscript.OP_TRUE}
	anybodyScript = append([]byte{txscript.OP_0, 32}, chainhash.HashB(anybody)...)
)

// Release implements the payer's wallet.
func (b *buyer) Release(context.Context, *wire.MsgTx) error { return nil }

// ReceiveScript implements the payer's wallet: where rests and refunds go.
func (b *buyer) ReceiveScript(context.Context) ([]byte, error) {
	b.coins++
	hash := chainhash.HashB(binary.LittleEndian.AppendUint64([]byte{'r', byte(b.n)}, b.coins))
	return append([]byte{txscript.OP_0, 20}, hash[:20]...), nil
}
