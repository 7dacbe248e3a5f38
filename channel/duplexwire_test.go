package channel

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/script"
)

// A lock goes with its epoch, and with no other.
func TestCheckLock(t *testing.T) {
	two, one := duplexTerms(), terms()
	for _, c := range []struct {
		t           Terms
		epoch, lock uint32
		ok          bool
	}{
		{two, 1, expiry - smallestStep, true}, {two, 2, expiry - 2*smallestStep, true}, {two, 0, 0, false},
		{two, 1, expiry, false}, {two, 2, expiry - smallestStep, false}, {two, 99_999_999, 0, false}, {two, 1, 0, false},
		{one, 0, 0, true}, {one, 1, expiry - smallestStep, false}, {one, 0, expiry, false},
	} {
		if err := c.t.CheckLock(c.epoch, c.lock); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrSignature) {
			t.Errorf("%s, epoch %d with the lock %d: %v", c.t.Construction, c.epoch, c.lock, err)
		}
	}
}

// payerOf is the payer's record of an open duplex channel.
func (b *both) payerOf(d Duplex) PayerRecord {
	return PayerRecord{Terms: d.Terms, Phase: Open, RefundScript: p2tr(0x33), FundingTx: Hex{1}, FundingSent: true}.with(d)
}

// A payer that resumes takes what the payee shows: what it has forgotten counts as
// signed, what comes back is taken once, what is wrong or too late is not.
func TestResumedDuplex(t *testing.T) {
	b := newBoth(t)
	signed := func(by script.Side, epoch uint32, amount uint64) Update {
		d := b.side[by]
		d.Sent = Update{Epoch: epoch, Amount: amount}
		return b.sign(d).Sent
	}
	mine := b.side[script.Payer]
	mine.Sent, mine.Ledger = signed(script.Payer, 1, 5_000), 5_000*sat
	r := b.payerOf(mine)
	back := signed(script.Payee, 2, capacity-3_000)
	wrong := back
	wrong.Amount++
	for name, c := range map[string]struct {
		q               Resumed
		tip             uint32
		want            error
		signed, owed    uint64
		changed, forgot bool
	}{
		"nothing new":              {Resumed{Held: mine.Sent}, 200, nil, 5_000, 5_000 * sat, false, false},
		"an older one":             {Resumed{Held: signed(script.Payer, 1, 4_000)}, 200, nil, 5_000, 5_000 * sat, false, false},
		"paid back":                {Resumed{Held: mine.Sent, Back: 2_000 * sat, Sent: back}, 200, nil, 3_000, 3_000 * sat, true, false},
		"told, and no state yet":   {Resumed{Held: mine.Sent, Back: 5 * sat}, 200, nil, 5_000, 4_995 * sat, true, false},
		"a state that is too late": {Resumed{Held: mine.Sent, Back: 2_000 * sat, Sent: back}, expiry - smallestStep - margin, nil, 5_000, 3_000 * sat, true, false},
		"forgotten":                {Resumed{Held: signed(script.Payer, 1, 9_000)}, 200, nil, 9_000, 9_000 * sat, true, true},
		"forgotten, and paid back": {Resumed{Held: signed(script.Payer, 1, 9_000), Back: 6_000 * sat, Sent: back}, 200, nil, 3_000, 3_000 * sat, true, true},
		"forgotten a reversal":     {Resumed{Held: signed(script.Payer, 3, 4_000), Back: 2_000 * sat, Sent: back}, 200, nil, 4_000, 4_000 * sat, true, true},
		"not signed here":          {Resumed{Held: Update{Epoch: 3, Amount: 4_000, Signature: back.Signature}}, 200, ErrSignature, 0, 0, false, false},
		"not signed there":         {Resumed{Held: mine.Sent, Sent: wrong}, 200, ErrSignature, 0, 0, false, false},
		"above the capacity":       {Resumed{Held: mine.Sent, Sent: Update{Epoch: 2, Amount: capacity + 1, Signature: back.Signature}}, 200, ErrAmountExceeds, 0, 0, false, false},
		"an odd one of the payee":  {Resumed{Held: mine.Sent, Sent: signed(script.Payer, 3, 4_000)}, 200, ErrTerms, 0, 0, false, false},
		"an even one of the payer": {Resumed{Held: back}, 200, ErrTerms, 0, 0, false, false},
		"one that skips an epoch":  {Resumed{Held: mine.Sent, Sent: signed(script.Payee, 4, capacity-3_000)}, 200, ErrTerms, 0, 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			next, changed, err := r.ResumedDuplex(b.ch, c.q, c.tip)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil {
				same(t, "record", next, r)
				return
			}
			if changed != c.changed || next.Signed != c.signed || next.Owed != c.owed {
				t.Fatalf("changed %t, signed %d sat, owed %d msat", changed, next.Signed, next.Owed)
			}
			again, changed, err := next.ResumedDuplex(b.ch, c.q, c.tip)
			wantNil(t, err)
			if changed {
				t.Fatalf("a repeat changed it: %+v", again.Duplex)
			}
		})
	}
	imported := r
	imported.Imported = true
	if _, _, err := imported.ResumedDuplex(b.ch, Resumed{Held: mine.Sent}, 200); !errors.Is(err, ErrFinalized) {
		t.Fatalf("an imported channel: %v", err)
	}
	if _, _, err := bought().ResumedDuplex(b.ch, Resumed{}, 200); !errors.Is(err, ErrUnsupported) {
		t.Fatalf("a one-way channel: %v", err)
	}
	if _, _, err := r.Resumed(b.ch, mine.Sent); !errors.Is(err, ErrUnsupported) {
		t.Fatalf("a duplex channel resumed as a one-way one: %v", err)
	}
}

// Only what is gone comes off the ledger, newest first, down to the payer's, and no
// more than a credit in all.
func TestWithdraw(t *testing.T) {
	goneAll := func(Charge) bool { return true }
	charge := func(n uint64) Charge { return Charge{Resource: Hex{1}, Chunk: n, Price: chunk} }
	d := Duplex{Terms: duplexTerms(), Side: script.Payee, Phase: Open, Ledger: 3 * chunk, Recent: []Charge{charge(0), charge(1), charge(2)}}
	base := PayeeRecord{Terms: d.Terms, Phase: Open, NewcomerAbove: noPlaces}.with(d)
	for name, c := range map[string]struct {
		ledger uint64
		gone   func(Charge) bool
		change func(*PayeeRecord)
		off    []uint64
	}{
		"the last one did not arrive": {2 * chunk, goneAll, nil, []uint64{2}},
		"all arrived":                 {3 * chunk, goneAll, nil, nil},
		"more arrived than is here":   {4 * chunk, goneAll, nil, nil},
		"less than a chunk":           {3*chunk - 1, goneAll, nil, nil},
		"on offer":                    {0, func(Charge) bool { return false }, nil, nil},
		"a lie":                       {0, goneAll, nil, []uint64{2}},
		"a larger credit":             {0, goneAll, func(r *PayeeRecord) { r.Terms.Credit = 2 * chunk }, []uint64{2, 1}},
		"the one that is gone":        {0, func(c Charge) bool { return c.Chunk == 0 }, nil, []uint64{0}},
		"from before a restore":       {0, goneAll, func(r *PayeeRecord) { r.Restored = true }, nil},
		"settling":                    {0, goneAll, func(r *PayeeRecord) { r.Phase = Settling }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := base
			if c.change != nil {
				c.change(&r)
			}
			next, off := r.Withdraw(c.ledger, c.gone)
			if len(off) != len(c.off) || next.Charged != r.Charged-uint64(len(off))*chunk {
				t.Fatalf("%v came off, charged are %d msat", off, next.Charged)
			}
			for i, n := range c.off {
				if off[i].Chunk != n {
					t.Fatalf("%v came off, want %v", off, c.off)
				}
			}
			if len(off) == 0 {
				return
			}
			if _, twice := next.Withdraw(0, goneAll); len(twice) > 0 {
				t.Fatalf("%v came off after %v", twice, off)
			}
		})
	}
	if _, off := record().Withdraw(0, goneAll); off != nil {
		t.Fatal("something came off in a one-way channel")
	}
}

// Newest charges are remembered, and not without end.
func TestRecentCharges(t *testing.T) {
	var all []Charge
	for i := range uint64(3 * MaxRecent) {
		all = recent(all, []Charge{{Chunk: i}})
	}
	if len(all) != MaxRecent || all[MaxRecent-1].Chunk != 3*MaxRecent-1 || len(recent(all, nil)) != MaxRecent {
		t.Fatalf("%d are remembered, the last is %d", len(all), all[len(all)-1].Chunk)
	}
}

// A payer that says of each version of a file that it never came gets one credit in all,
// however often the file changes.
func TestWithdrawnAgainAndAgain(t *testing.T) {
	d := Duplex{Terms: duplexTerms(), Side: script.Payee, Phase: Open}
	r := PayeeRecord{Terms: d.Terms, Phase: Open, NewcomerAbove: noPlaces}.with(d)
	lost := uint64(0)
	for n := range uint64(5) {
		d := r.duplex()
		d.Ledger += chunk
		d.Recent = recent(d.Recent, []Charge{{Resource: Hex{byte(n)}, Chunk: 0, Price: chunk}})
		r = r.with(d)
		next, off := r.Withdraw(0, func(Charge) bool { return true })
		for _, c := range off {
			lost += c.Price
		}
		if err := next.followsMoney(&r); err != nil {
			t.Fatal(err)
		}
		r = next
	}
	if lost != chunk || r.Duplex.Off != chunk {
		t.Fatalf("%d msat came off, %d msat are noted", lost, r.Duplex.Off)
	}
	back := r
	back.Duplex = &Duplex{}
	if back.followsMoney(&r) == nil {
		t.Fatal("what was taken off is forgotten")
	}
}
