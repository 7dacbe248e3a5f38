package tower_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
	"github.com/spillway/spillway/watch/tower"
)

// changes are what a tower, or somebody who reads its disk, could try on a rung.
var changes = map[string]func(tx *wire.MsgTx){
	"the payout elsewhere":   func(tx *wire.MsgTx) { tx.TxOut[len(tx.TxOut)-1].PkScript[5] ^= 1 },
	"a satoshi more of fee":  func(tx *wire.MsgTx) { tx.TxOut[len(tx.TxOut)-1].Value-- },
	"a satoshi less of fee":  func(tx *wire.MsgTx) { tx.TxOut[len(tx.TxOut)-1].Value++ },
	"the rest elsewhere":     func(tx *wire.MsgTx) { tx.TxOut[0].PkScript[5] ^= 1 },
	"a smaller rest":         func(tx *wire.MsgTx) { tx.TxOut[0].Value -= 1000 },
	"the rest to the payout": func(tx *wire.MsgTx) { tx.TxOut[0].Value--; tx.TxOut[len(tx.TxOut)-1].Value++ },
	"without the payout":     func(tx *wire.MsgTx) { tx.TxOut = tx.TxOut[:len(tx.TxOut)-1] },
	"an output of its own": func(tx *wire.MsgTx) {
		tx.TxOut[len(tx.TxOut)-1].Value -= 1000
		tx.AddTxOut(wire.NewTxOut(1000, bytes.Clone(tx.TxOut[0].PkScript)))
	},
	"outputs in another order": func(tx *wire.MsgTx) { tx.TxOut[0], tx.TxOut[len(tx.TxOut)-1] = tx.TxOut[len(tx.TxOut)-1], tx.TxOut[0] },
	"an input of its own": func(tx *wire.MsgTx) {
		tx.AddTxIn(wire.NewTxIn(wire.NewOutPoint(&chainhash.Hash{9}, 0), nil, nil))
	},
	"a later lock":     func(tx *wire.MsgTx) { tx.LockTime = 100 },
	"another sequence": func(tx *wire.MsgTx) { tx.TxIn[0].Sequence-- },
	"another version":  func(tx *wire.MsgTx) { tx.Version ^= 1 },
}

// A tower that is dishonest can burn the dearest rung's fee, and nothing more: every
// rung pays the payer its whole rest and the payee all the rest of it but the fee, and
// whatever else is changed makes it invalid.
func TestDishonestTower(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := newStand(t)
			id := s.bought(kind, 20)
			held, err := s.tower.Entries(t.Context(), provider)
			must(t, err)
			e := held[0]
			rungs, err := e.Ladder.Unpack()
			must(t, err)
			t1, err := channel.DecodeTx(e.Funding)
			must(t, err)
			at := wire.OutPoint(e.Channel)
			prev := map[wire.OutPoint]*wire.TxOut{at: t1.TxOut[at.Index], {Hash: chainhash.Hash{9}}: wire.NewTxOut(1_000, []byte{0x51})}
			rest, dearest := s.terms(id), e.Rungs[len(e.Rungs)-1].Fee
			for i, tx := range rungs {
				must(t, script.Execute(tx, prev))
				if out := tx.TxOut[0]; out.Value != 30_000 || !bytes.Equal(out.PkScript, rest.RestScript) {
					t.Fatalf("rung %d: the payer gets %d sat", i, out.Value)
				}
				if out := tx.TxOut[1]; out.Value < 20_000-dearest || !bytes.Equal(out.PkScript, s.Payout) {
					t.Fatalf("rung %d: the payee gets %d sat", i, out.Value)
				}
				for name, change := range changes {
					bad := tx.Copy()
					change(bad)
					if err := script.Execute(bad, prev); !errors.Is(err, script.ErrExecute) && !errors.Is(err, script.ErrAmount) {
						t.Errorf("rung %d with %s: %v", i, name, err)
					}
				}
			}
			if script.FeeRate(dearest*1000/e.Rungs[len(e.Rungs)-1].VSize) > script.FeeRatePerVB(1001) {
				t.Errorf("the dearest rung burns %d sat", dearest)
			}
		})
	}
}

// repack packs rungs after one of them was changed.
func repack(t *testing.T, h tower.Handoff, change func(rungs []*wire.MsgTx) []*wire.MsgTx) tower.Handoff {
	t.Helper()
	rungs, err := h.Unpack()
	must(t, err)
	h.Ladder, err = tower.Pack(change(rungs))
	must(t, err)
	return h
}

// What is handed over is checked before it is taken.
func TestRefusals(t *testing.T) {
	s := newStand(t)
	id := s.Open(script.Taproot)
	s.buy(id, 0, 20)
	other := s.terms(s.Open(script.Taproot)).Outpoint
	tip, err := s.Chain.Tip(t.Context())
	must(t, err)
	all := func(change func(tx *wire.MsgTx)) func(t *testing.T, h tower.Handoff) tower.Handoff {
		return func(t *testing.T, h tower.Handoff) tower.Handoff {
			return repack(t, h, func(rungs []*wire.MsgTx) []*wire.MsgTx {
				for _, tx := range rungs {
					change(tx)
				}
				return rungs
			})
		}
	}
	plain := func(change func(h *tower.Handoff)) func(t *testing.T, h tower.Handoff) tower.Handoff {
		return func(_ *testing.T, h tower.Handoff) tower.Handoff { change(&h); return h }
	}
	cases := map[string]struct {
		change func(t *testing.T, h tower.Handoff) tower.Handoff
		want   error
	}{
		"no expiry":        {plain(func(h *tower.Handoff) { h.Expiry = 0 }), tower.ErrTime},
		"a time as expiry": {plain(func(h *tower.Handoff) { h.Expiry = 500_000_000 }), tower.ErrTime},
		"a far expiry":     {plain(func(h *tower.Handoff) { h.Expiry = tip.Height + 52_561 }), tower.ErrTime},
		"no margin":        {plain(func(h *tower.Handoff) { h.Margin = 0 }), tower.ErrTime},
		"a margin as long": {plain(func(h *tower.Handoff) { h.Margin = h.Expiry }), tower.ErrTime},
		"no rung":          {plain(func(h *tower.Handoff) { h.Ladder = tower.Ladder{} }), tower.ErrMalformed},
		"bytes behind":     {plain(func(h *tower.Handoff) { h.First = append(h.First, 0) }), tower.ErrMalformed},
		"a huge rung": {func(t *testing.T, h tower.Handoff) tower.Handoff {
			tx, err := channel.DecodeTx(h.First)
			must(t, err)
			tx.TxIn[0].Witness = append(tx.TxIn[0].Witness, make([]byte, 4000))
			h.First, err = channel.EncodeTx(tx)
			must(t, err)
			return h
		}, tower.ErrMalformed},
		"a slot beyond":        {plain(func(h *tower.Handoff) { h.Slot = 9 }), tower.ErrMalformed},
		"a slot below":         {plain(func(h *tower.Handoff) { h.Slot = -1 }), tower.ErrMalformed},
		"a huge signature":     {plain(func(h *tower.Handoff) { h.More[0].Signature = make(channel.Hex, 81) }), tower.ErrMalformed},
		"no signature":         {plain(func(h *tower.Handoff) { h.More[0].Signature = nil }), tower.ErrMalformed},
		"too many rungs":       {plain(func(h *tower.Handoff) { h.More = slices.Repeat(h.More[:1], tower.MaxRungs) }), tower.ErrMalformed},
		"another's signature":  {plain(func(h *tower.Handoff) { h.More[1].Signature = h.More[2].Signature }), tower.ErrExecute},
		"a negative payout":    {plain(func(h *tower.Handoff) { h.More[1].Payout = -1 }), tower.ErrForm},
		"a payout of too much": {plain(func(h *tower.Handoff) { h.More[1].Payout = 1 << 62 }), tower.ErrForm},
		"a payout below dust":  {plain(func(h *tower.Handoff) { h.More[1].Payout = 329 }), tower.ErrForm},
		"a rung twice":         {plain(func(h *tower.Handoff) { h.More = append(h.More, h.More[len(h.More)-1]) }), tower.ErrFees},
		"falling fees":         {plain(func(h *tower.Handoff) { h.More[0], h.More[1] = h.More[1], h.More[0] }), tower.ErrFees},
		"another channel":      {plain(func(h *tower.Handoff) { h.Channel = other }), tower.ErrOutpoint},
		"no such output":       {plain(func(h *tower.Handoff) { h.Channel.Index = 7 }), tower.ErrOutpoint},
		"no such channel":      {plain(func(h *tower.Handoff) { h.Channel.Hash[3] ^= 1 }), tower.ErrUnseen},
		"a lock":               {all(func(tx *wire.MsgTx) { tx.LockTime = 1 }), tower.ErrLocked},
		"not replaceable":      {all(func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = 0xffffffff }), tower.ErrForm},
		"another version":      {all(func(tx *wire.MsgTx) { tx.Version = 1 }), tower.ErrForm},
		"version 2":            {all(func(tx *wire.MsgTx) { tx.Version = 2 }), tower.ErrExecute},
		"a third output":       {all(func(tx *wire.MsgTx) { tx.TxOut = append(tx.TxOut[:1], tx.TxOut...) }), tower.ErrForm},
		"to anybody":           {all(func(tx *wire.MsgTx) { tx.TxOut[1].PkScript = []byte{0x51} }), tower.ErrForm},
		"a changed payout":     {all(func(tx *wire.MsgTx) { tx.TxOut[1].PkScript[9] ^= 1 }), tower.ErrExecute},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := s.tower.Take(t.Context(), provider, c.change(t, s.ladder(id))); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if p := s.providers()[0]; p.Channels != 0 || p.Bytes != 0 {
		t.Errorf("refused, and charged for: %+v", p)
	}
	must(t, func() error { _, err := s.tower.Take(t.Context(), provider, s.ladder(id)); return err }())
}

// An older ladder that is repeated, by the network or by somebody who saw it, changes
// nothing; and no provider can touch another's entry.
func TestReplayAndForeignProvider(t *testing.T) {
	s := newStand(t)
	_, err := tower.AddProvider(t.Context(), s.disk, "eve", [32]byte{2})
	must(t, err)
	id := s.Open(script.Taproot)
	s.buy(id, 0, 5)
	old := s.ladder(id)
	s.buy(id, 5, 9)
	for i, h := range []tower.Handoff{s.ladder(id), old, s.ladder(id), old} {
		taken, err := s.tower.Take(t.Context(), provider, h)
		must(t, err)
		if taken.Amount != 9_000 || taken.Stored != (i == 0) {
			t.Fatalf("hand-off %d: %+v", i, taken)
		}
	}
	if taken, err := s.tower.Take(t.Context(), "eve", old); err != nil || !taken.Stored || taken.Amount != 5_000 {
		t.Fatalf("%+v, %v", taken, err)
	}
	mine, err := s.tower.Entries(t.Context(), provider)
	must(t, err)
	if len(mine) != 1 || mine[0].Amount != 9_000 {
		t.Fatalf("the provider's entries are %+v", mine)
	}
	s.mineTo(s.terms(id).Expiry - s.terms(id).Margin)
	s.step() // ada's 9,000 and eve's 5,000: what leaves more to the payee stays
	s.step()
	s.Mine(1)
	s.settled(id, 9_000)
}

// A provider's room is bounded, in channels and in bytes; others are not concerned.
func TestBounded(t *testing.T) {
	s := newStand(t)
	_, err := tower.AddProvider(t.Context(), s.disk, "eve", [32]byte{2})
	must(t, err)
	a, b := s.Open(script.Taproot), s.Open(script.Multisig)
	s.buy(a, 0, 5)
	s.buy(b, 0, 5)
	s.cfg.MaxChannels = 1
	s.restart()
	_, err = s.tower.Take(t.Context(), provider, s.ladder(a))
	must(t, err)
	if _, err := s.tower.Take(t.Context(), provider, s.ladder(b)); !errors.Is(err, tower.ErrFull) {
		t.Errorf("a second channel of one: %v", err)
	}
	s.buy(a, 5, 6)
	if taken, err := s.tower.Take(t.Context(), provider, s.ladder(a)); err != nil || !taken.Stored {
		t.Errorf("a newer ladder of the one channel: %+v, %v", taken, err)
	}
	_, err = s.tower.Take(t.Context(), "eve", s.ladder(b))
	must(t, err)
	s.cfg.MaxChannels, s.cfg.MaxBytes = 0, s.providers()[0].Bytes+100
	s.restart()
	if _, err := s.tower.Take(t.Context(), provider, s.ladder(b)); !errors.Is(err, tower.ErrFull) {
		t.Errorf("more bytes than allowed: %v", err)
	}
}

// Tokens: only the right secret of the right name.
func TestAuthenticate(t *testing.T) {
	s := newStand(t)
	token, err := tower.AddProvider(t.Context(), s.disk, "eve", [32]byte{2})
	must(t, err)
	if name, err := s.tower.Authenticate(t.Context(), token); err != nil || name != "eve" {
		t.Fatalf("%q, %v", name, err)
	}
	for _, bad := range []string{"", ".", "eve", "eve.", token + "00", token[:len(token)-1] + "1", provider + token[3:], "nobody" + token[3:],
		"nobody." + fmt.Sprintf("%064x", 0), "EVE" + token[3:], " " + token, "../" + token} {
		if name, err := s.tower.Authenticate(t.Context(), bad); !errors.Is(err, tower.ErrToken) || name != "" {
			t.Errorf("%q is taken for %q, %v", bad, name, err)
		}
	}
	for _, name := range []string{"", "a b", "A", "a/b", "a.b", string(make([]byte, 65))} {
		if _, err := tower.AddProvider(t.Context(), s.disk, name, [32]byte{}); !errors.Is(err, tower.ErrName) {
			t.Errorf("a provider named %q: %v", name, err)
		}
	}
	if _, err := tower.AddProvider(t.Context(), s.disk, "eve", [32]byte{3}); !errors.Is(err, tower.ErrKnown) {
		t.Errorf("eve twice: %v", err)
	}
}

// A channel that is spent for good is not taken any more.
func TestSpentIsRefused(t *testing.T) {
	s := newStand(t)
	id := s.bought(script.Taproot, 5)
	h := s.ladder(id)
	s.mineTo(s.terms(id).Expiry - s.terms(id).Margin)
	s.step()
	s.Mine(1)
	s.settled(id, 5_000)
	if _, err := s.tower.Take(t.Context(), provider, h); !errors.Is(err, tower.ErrSpent) {
		t.Errorf("%v", err)
	}
}

// What cannot be what was saved is said to be damaged.
func TestDamagedEntry(t *testing.T) {
	s := newStand(t)
	s.bought(script.Taproot, 5)
	entries, err := s.disk.List(t.Context(), "tower/channel", "")
	must(t, err)
	bad := bytes.Replace(entries[0].Value, []byte(`"rungs":[{`), []byte(`"rungs":[{},{`), 1)
	must(t, s.disk.Commit(t.Context(), store.Op{Bucket: "tower/channel", Key: entries[0].Key, Value: bad, Expect: store.Any}))
	if _, err := s.tower.Entries(t.Context(), ""); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v", err)
	}
	other := s.bought(script.Multisig, 5)
	s.mineTo(s.terms(other).Expiry - s.terms(other).Margin)
	if err := (&watch.Watch{Chain: s.Chain, Drivers: []watch.Driver{s.tower}}).Step(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("nobody is told: %v", err)
	}
	if s.spend(other) == nil {
		t.Error("a damaged entry keeps another from its turn")
	}
}

// A ladder that no node takes is tried once in a block, all of it, and holds up nobody.
func TestRefusedLadder(t *testing.T) {
	s := newStand(t)
	id := s.bought(script.Taproot, 20)
	s.mineTo(s.terms(id).Expiry)
	ch, err := s.terms(id).Script()
	must(t, err)
	r, err := s.Payer.Record(t.Context(), id)
	must(t, err)
	key, err := s.PayerKeys.PayerChannelKey(r.KeyIndex)
	must(t, err)
	refund, _, err := ch.Refund(key, nil, s.Payout, script.FeeRatePerVB(300)) // dearer than any rung
	must(t, err)
	must(t, s.Chain.Broadcast(t.Context(), refund))
	sent := len(s.Chain.Sent())
	for range 3 {
		s.step()
	}
	if tries := len(s.Chain.Sent()) - sent; tries != 1 {
		t.Errorf("the highest rung was tried %d times in one block", tries)
	}
	_, err = s.Chain.MineBlock()
	must(t, err)
	s.step()
	if tries := len(s.Chain.Sent()) - sent; tries != 2 {
		t.Errorf("%d tries in two blocks", tries)
	}
	if len(s.events) != 1 {
		t.Errorf("told: %+v", s.events)
	}
}

// FuzzUnpack: a ladder from outside is read or refused; what is read packs to the same.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{}, 0, int64(0), []byte{})
	f.Add([]byte("0300000001"), 1, int64(5), []byte{1})
	tx := wire.NewMsgTx(3)
	tx.AddTxIn(&wire.TxIn{Witness: wire.TxWitness{{1}, {2}}, Sequence: script.Sequence})
	tx.AddTxOut(wire.NewTxOut(5, []byte{0x51}))
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(raw), 1, int64(4), []byte{3})
	legacy := wire.NewMsgTx(2)
	legacy.AddTxIn(&wire.TxIn{SignatureScript: []byte{0, 1, 7, 1, 8}, Sequence: script.Sequence})
	legacy.AddTxOut(wire.NewTxOut(5, []byte{0x51}))
	if raw, err = channel.EncodeTx(legacy); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(raw), 2, int64(4), []byte{9})
	f.Fuzz(func(t *testing.T, first []byte, slot int, payout int64, sig []byte) {
		l := tower.Ladder{First: first, Slot: slot, More: []tower.Step{{Payout: payout, Signature: sig}}}
		rungs, err := l.Unpack()
		if err != nil {
			if !errors.Is(err, tower.ErrMalformed) {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(rungs) != 2 {
			t.Fatalf("%d rungs", len(rungs))
		}
		h := tower.Handoff{Channel: channel.Outpoint(rungs[0].TxIn[0].PreviousOutPoint), Expiry: 1000, Margin: 36, Ladder: l}
		if _, err := tower.Check(h, wire.NewTxOut(1000, []byte{0x51})); err == nil && rungs[0].TxOut[0].Value > 1000 {
			t.Fatal("a rung that pays more than there is was taken")
		}
	})
}
