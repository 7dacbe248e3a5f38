package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// crowd is a stranger that opens as many channels as it can, takes what it gets on
// credit and pays for nothing; and that says two things where it should say one: two
// openings on one offer, one opening with another T1, rubbish without end.
type crowd struct {
	*buyer
	q     *paywall.Quoted // an offer that was used before
	ids   []string        // channels that it has
	begun uint32          // height at which it came
	top   uint32          // the highest tip since
}

// maxCrowd is how many channels a stranger opens.
const maxCrowd = 24

func newCrowd(w *world) *crowd {
	b := &buyer{process: newProcess(w, "the stranger"), n: maxBuyers, keys: newKeyCache(rings()[0], w.seed%8 == 0), parts: map[int][]byte{}}
	b.keys.offset = maxBuyers << 20
	c := &crowd{buyer: b, begun: w.chain.Height()}
	w.crowd = c
	b.start()
	return c
}

// has reports whether a process is the stranger's.
func (c *crowd) has(p *process) bool { return c != nil && p == c.process }

// step is an event of a day with a stranger.
func (c *crowd) step() {
	w := c.w
	if c.dead || c.away() || w.vanished {
		return
	}
	switch n := w.rng.IntN(20); {
	case n < 7 && len(c.ids) < maxCrowd:
		c.flood()
	case n < 13:
		c.take()
	case n < 16 && len(c.ids) < maxCrowd:
		c.twice()
	case n < 18:
		c.otherFunding()
	default:
		c.rubbish()
	}
}

// open opens a channel with as little in it as is allowed.
func (c *crowd) open(q *paywall.Quoted, capacity uint64) (string, error) {
	id, err := c.client.Open(c.w.ctx, q, c.w.story.kind, capacity, c.expect(), nil)
	c.w.tell("the stranger opens %.12s with %d sat: %v", id, capacity, err)
	if id != "" {
		c.ids = append(c.ids, id)
	}
	return id, err
}

// purse is what a stranger locks at most, in sat: a payee that lies may want more than there is.
const purse = 100_000_000_000

func (c *crowd) quote() bool {
	q, err := c.client.Quote(c.w.ctx, c.url(c.w.seller.files[0], 0), c.expect())
	if err != nil || q.Offer.MinDeposit > purse {
		return false
	}
	c.q = q
	return true
}

// flood opens some channels at once.
func (c *crowd) flood() {
	for range 1 + c.w.rng.IntN(4) {
		if len(c.ids) >= maxCrowd || !c.quote() {
			return
		}
		capacity := max(c.q.Offer.MinDeposit, channel.CeilSat(2*c.w.story.price)+2*channel.MinimumPayout)
		if _, err := c.open(c.q, capacity); err == nil {
			c.w.fault("flood-channel")
		}
	}
}

// take asks for chunks on all of its channels, and pays for none.
func (c *crowd) take() {
	w := c.w
	for _, id := range c.ids {
		r, err := c.payer.Record(w.ctx, id)
		if err != nil || !r.Accepted || r.Phase.Final() {
			continue
		}
		f := w.seller.files[w.rng.IntN(len(w.seller.files))]
		resp, _, err := c.client.Fetch(w.ctx, paywall.Paid{Channel: id, URL: c.url(f, w.rng.Uint64N(f.chunks)), Update: r.Newest(), Expect: c.expect()})
		if err == nil {
			err = resp.Body.Close()
			w.fault("flood-chunk")
		}
		var want *paywall.InsufficientError
		if errors.As(err, &want) {
			w.fault("flood-refused")
		}
	}
}

// twice opens a second channel on an offer that one was opened on: the payee's key
// belongs to the first.
func (c *crowd) twice() {
	if !c.quote() {
		return
	}
	q := c.q
	first, err := c.open(q, q.Offer.MinDeposit+10_000)
	if err != nil {
		return
	}
	second, err := c.open(q, q.Offer.MinDeposit+10_000+c.w.rng.Uint64N(2)*5_000)
	c.w.fault("two-openings-of-one-offer")
	if err == nil {
		c.w.violate("%.12s and %.12s were opened on one offer", first, second)
	}
}

// otherFunding sends an opening that was taken once more, with another T1 of the same
// keys and the same amount.
func (c *crowd) otherFunding() {
	w := c.w
	var opened []packet
	for _, p := range w.history {
		if p.good && c.has(p.from.process) && bytes.Contains(p.raw, []byte("POST")) {
			opened = append(opened, p)
		}
	}
	for _, p := range opened {
		if c.sendOther(p) {
			return
		}
	}
}

func (c *crowd) sendOther(p packet) bool {
	w := c.w
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p.raw)))
	w.must(err)
	cred, err := mpp.ParseCredential(req.Header.Values(mpp.HeaderCredential))
	if err != nil {
		return false
	}
	parsed, err := bitcoin.ParsePayload(cred.Payload)
	if err != nil {
		return false
	}
	open, is := parsed.(bitcoin.Open)
	if !is || w.audit.payee[open.ChannelID].Terms.Capacity == 0 || len(open.FundingTx) == 0 {
		return false
	}
	r := w.audit.payer[open.ChannelID]
	ch, err := r.Terms.Script()
	w.must(err)
	funded, err := c.Fund(w.ctx, []*wire.TxOut{{Value: int64(open.Capacity), PkScript: ch.OutputScript()}}, script.FeeRatePerVB(5))
	w.must(err)
	t := r.Terms
	t.Outpoint = channel.Outpoint{Hash: funded.Tx.TxHash()}
	other, err := t.Script()
	w.must(err)
	state, err := t.Commitment(t.First(nil))
	w.must(err)
	key, err := c.keys.PayerChannelKey(r.KeyIndex)
	w.must(err)
	if open.Signature, err = other.SignState(key, state); err != nil {
		return false
	}
	raw, err := channel.EncodeTx(funded.Tx)
	w.must(err)
	open.FundingTx, open.ChannelID = raw, t.ID()
	mac, err := c.payer.MACKey(w.ctx, r.Terms.ID())
	if err != nil {
		return false
	}
	cred.Payload, err = bitcoin.Seal(open, mac, cred.Challenge.ID, req.Header.Get(mpp.HeaderIdempotencyKey))
	w.must(err)
	req.Header.Set(mpp.HeaderCredential, cred.Encode())
	var out bytes.Buffer
	w.must(req.Write(&out))
	before := w.audit.standing()
	_, a := w.seller.handle(bufio.NewReader(&out))
	if a == nil {
		return true
	}
	w.fault("opening-with-another-t1")
	w.tell("the stranger sends its opening with another T1: HTTP status %d", a.status)
	if _, stored := w.audit.payee[t.ID()]; a.status < 400 || stored || w.audit.standing() != before {
		w.violate("an opening was taken with a second T1, status %d", a.status)
	}
	return true
}

// rubbish sends many requests that are nothing: neither the disk nor the memory of
// the payee has more in it then.
func (c *crowd) rubbish() {
	w := c.w
	if len(w.history) == 0 || w.seller.dead || w.seller.away() {
		return
	}
	rows, kept := w.seller.rows(), w.seller.server.Remembered()+w.seller.payee.Remembered()
	known := len(w.audit.payee)
	for range 20 {
		if w.seller.dead {
			return
		}
		p := w.history[w.rng.IntN(len(w.history))]
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p.raw)))
		if err != nil {
			continue
		}
		c.spoil(req)
		var out bytes.Buffer
		w.must(req.Write(&out))
		w.seller.handle(bufio.NewReader(&out))
	}
	w.fault("rubbish")
	if w.seller.dead {
		return
	}
	if now := w.seller.rows(); now != rows {
		w.violate("rubbish left %d rows on the payee's disk", now-rows)
	}
	// what is read of a channel that is there may be kept: a few entries each
	if now := w.seller.server.Remembered() + w.seller.payee.Remembered(); now > kept+6*known {
		w.violate("rubbish left %d entries in the payee's memory, with %d channels", now-kept, known)
	}
}

// spoil gives a request a credential that nobody sealed: of another channel, with
// another key, or with fields that are made up.
func (c *crowd) spoil(req *http.Request) {
	w := c.w
	cred, err := mpp.ParseCredential(req.Header.Values(mpp.HeaderCredential))
	if err != nil {
		return // an unpaid request
	}
	var payload map[string]any
	w.must(json.Unmarshal(cred.Payload, &payload))
	var id [32]byte
	for i := range id {
		id[i] = byte(w.rng.Uint32())
	}
	hash := wire.OutPoint{Hash: id}.String()
	names := slices.Sorted(maps.Keys(payload))
	switch w.rng.IntN(3) {
	case 0:
		payload["channelId"] = hash
	case 1:
		payload[names[w.rng.IntN(len(names))]] = hash
	}
	payload["mac"] = hash[:64]
	req.Header.Set(mpp.HeaderIdempotencyKey, hash[:32])
	cred.Payload, err = json.Marshal(payload)
	w.must(err)
	req.Header.Set(mpp.HeaderCredential, cred.Encode())
}

// rows is how many entries are on the payee's disk.
func (s *seller) rows() (n int) {
	for _, bucket := range []string{bucketPayee, "payee/key", bucketPool, bucketPages, "payee/meta"} {
		entries, err := s.disk.open.List(s.w.ctx, bucket, "")
		s.w.must(err)
		n += len(entries)
	}
	return n
}

// unpaid: what newcomers were given and did not pay for, ever, is within the pool and
// what the pool gives back, one pool in 144 blocks. What graduates owe is their credit.
func (c *crowd) unpaid() {
	if c == nil {
		return
	}
	w := c.w
	c.top = max(c.top, w.chain.Height())
	size := w.pol.PoolChunks * w.story.price
	var sum uint64
	for _, r := range w.audit.payee {
		if r.MaxPrice > r.NewcomerAbove && r.Paid == 0 {
			sum += r.Owed()
		}
	}
	if most := size + size*uint64(c.top-c.begun)/144; sum > most && !w.seller.restored {
		w.violate("newcomers were given %d msat and paid nothing, the pool has %d msat, with what came back %d msat", sum, size, most)
	}
}

// oneKey holds each of the payee's keys to one channel.
func (a *audit) oneKey(r channel.PayeeRecord) {
	for id, other := range a.payee {
		if other.Terms.PayeeKey == r.Terms.PayeeKey && id != r.Terms.ID() {
			a.w.violate("%.12s and %.12s have one key of the payee's", id, r.Terms.ID())
		}
	}
}

// freeNever gives up, at the end, what the stranger opened and nobody took, and spends
// its coins elsewhere.
func (c *crowd) freeNever() {
	for _, id := range c.ids {
		r := c.w.audit.payer[id]
		if r.Accepted || r.Phase.Final() {
			continue
		}
		if r.Phase == channel.Prepared {
			c.w.must(c.payer.Abandon(c.w.ctx, id))
			continue
		}
		if _, err := c.w.chain.Tx(c.w.ctx, r.Terms.Outpoint.Hash); errors.Is(err, chain.ErrNotFound) {
			c.w.tell("  the stranger spends the coin of %.12s elsewhere: %v", id, c.free(r))
		}
	}
}
