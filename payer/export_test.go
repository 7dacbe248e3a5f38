package payer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/wallet"
)

var kinds = []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH, script.Duplex}

// exportOf opens a channel and exports it.
func exportOf(t testing.TB, p *pairtest.Pair, kind script.Construction) (string, payer.Export) {
	t.Helper()
	id := p.Open(kind)
	e, err := p.Payer.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return id, e
}

func pairOf(t testing.TB) *pairtest.Pair {
	p := pairtest.New(t)
	p.Kinds = kinds
	p.RestartPayee()
	return p
}

// lose takes the payer's disk away: the new one has the seed and nothing else.
func lose(p *pairtest.Pair) {
	p.PayerDisk = &pairtest.Disk{Store: memory.New()}
	p.RestartPayer()
}

func again(t testing.TB, e payer.Export) payer.Export {
	t.Helper()
	raw, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := payer.DecodeExport(raw)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// From the seed and the export everything unpaid comes back, to the satoshi.
func TestImportedChannelIsRefunded(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			p := pairOf(t)
			id, e := exportOf(t, p, kind)
			lose(p)
			got, err := p.Payer.Import(t.Context(), again(t, e))
			wantNil(t, err)
			if got.Over || got.Record.Phase != channel.Open || !got.Record.Imported || got.Record.Terms.ID() != id {
				t.Fatalf("imported as %+v", got)
			}
			before, err := p.Wallet.Balance(t.Context())
			wantNil(t, err)
			if _, err := p.Payer.Refund(t.Context(), id); !errors.Is(err, channel.ErrNotYet) {
				t.Fatalf("an early refund: %v", err)
			}
			tip, err := p.Chain.Tip(t.Context())
			wantNil(t, err)
			p.Mine(int(e.Terms.Expiry - tip.Height))
			wantNil(t, p.StepPayer())
			p.Mine(int(p.Policy.Burial))
			wantNil(t, p.StepPayer())
			r, err := p.Payer.Record(t.Context(), id)
			wantNil(t, err)
			if r.Phase != channel.Refunded {
				t.Fatalf("phase %s", r.Phase)
			}
			after, err := p.Wallet.Balance(t.Context())
			wantNil(t, err)
			if after.Confirmed-before.Confirmed != int64(pairtest.Capacity)-r.Refund.Fee {
				t.Fatalf("%d sat came back of %d sat, the fee was %d sat", after.Confirmed-before.Confirmed, pairtest.Capacity, r.Refund.Fee)
			}
		})
	}
}

// Where the payee settles what it was paid, also more than the export knows of, the
// whole rest comes to the wallet that was restored from its words.
func TestImportedChannelIsSettled(t *testing.T) {
	for _, kind := range kinds[:3] {
		t.Run(string(kind), func(t *testing.T) {
			p := pairOf(t)
			id, e := exportOf(t, p, kind)
			_, err := p.Buy(id, 0)
			wantNil(t, err)
			_, err = p.Buy(id) // the payment, which the export does not know
			wantNil(t, err)
			lose(p)
			_, err = p.Payer.Import(t.Context(), e)
			wantNil(t, err)
			before, err := p.Wallet.Balance(t.Context())
			wantNil(t, err)
			tip, err := p.Chain.Tip(t.Context())
			wantNil(t, err)
			p.Mine(int(e.Terms.Expiry - e.Terms.Margin - tip.Height))
			wantNil(t, p.StepPayee())
			wantNil(t, p.StepPayer())
			p.Mine(int(p.Policy.Burial))
			wantNil(t, p.StepPayer())
			after, err := p.Wallet.Balance(t.Context())
			wantNil(t, err)
			rest := int64(pairtest.Capacity) - int64(channel.CeilSat(pairtest.Price))
			if r, err := p.Payer.Record(t.Context(), id); err != nil || r.Phase != channel.Closed || after.Confirmed-before.Confirmed != rest {
				t.Fatalf("phase %s, %d sat came, want %d sat, %v", r.Phase, after.Confirmed-before.Confirmed, rest, err)
			}
		})
	}
}

// An imported record may be old: whatever was signed after it is not known, so that
// nothing but the refund is ever signed for it. Pitfalls 22 and 26.
func TestPitfall22_ImportedSignsNothing(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			p := pairOf(t)
			id, e := exportOf(t, p, kind)
			_, err := p.Buy(id, 0)
			wantNil(t, err)
			lose(p)
			_, err = p.Payer.Import(t.Context(), e)
			wantNil(t, err)
			_, pay := p.Payer.Pay(t.Context(), id, payer.Payment{Verified: pairtest.Price}, channel.Limits{Budget: channel.MaxSat})
			_, last := p.Payer.Pay(t.Context(), id, payer.Payment{Last: true}, channel.Limits{Budget: channel.MaxSat})
			_, closing := p.Payer.BeginClose(t.Context(), id)
			_, opening := p.Payer.Opening(t.Context(), id)
			published := p.Payer.Publish(t.Context(), id)
			for _, err := range []error{pay, last, closing, opening, published} {
				if !errors.Is(err, channel.ErrFinalized) {
					t.Errorf("%v, want %v", err, channel.ErrFinalized)
				}
			}
			r, err := p.Payer.Record(t.Context(), id)
			wantNil(t, err)
			if r.CanBuy(pairtest.Price) == nil {
				t.Error("something could be bought in it")
			}
			if kind == script.Duplex {
				_, err := p.Payer.Sell(t.Context(), id, payer.Sale{Price: 1, Credit: pairtest.Price})
				if !errors.Is(err, channel.ErrFinalized) {
					t.Errorf("it sells: %v", err)
				}
			}
		})
	}
}

// The export is kept before anything of the channel leaves, and where it is not, then
// nothing leaves: the coins are free again. Pitfall 8.
func TestPitfall08_ExportedBeforeFunding(t *testing.T) {
	p := pairtest.New(t)
	var kept []payer.Export
	full := errors.New("the disk is full")
	var failing error
	driver, err := payer.New(payer.Config{Store: p.PayerDisk, Keys: p.PayerKeys, Wallet: p.Wallet, Chain: p.Chain, Network: "regtest",
		Policy: p.Policy, Rand: bytes.NewReader(nil), Keep: func(_ context.Context, e payer.Export) error {
			if len(p.Chain.Sent()) > 0 {
				t.Error("something left before the export was kept")
			}
			kept = append(kept, e)
			return failing
		}})
	wantNil(t, err)
	p.Payer = driver
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		o := p.Offer()
		r := p.Prepare(o, kind)
		id := r.Terms.ID()
		if kind == script.Multisig {
			if _, err := driver.Export(t.Context(), id); !errors.Is(err, channel.ErrTerms) {
				t.Fatalf("exported without the payee's signature: %v", err)
			}
			p.SignRefund(o, r)
		}
		failing = full
		if _, err := driver.Opening(t.Context(), id); !errors.Is(err, full) {
			t.Fatalf("opened without an export: %v", err)
		}
		if now, err := driver.Record(t.Context(), id); err != nil || now.Phase != channel.Prepared {
			t.Fatalf("phase %s, %v", now.Phase, err)
		}
		failing = nil
		if _, err := driver.Opening(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if e := kept[len(kept)-1]; e.Terms.ID() != id || again(t, e).Terms.ID() != id {
			t.Fatalf("kept %+v", e)
		}
	}
}

// What is imported is checked, and nothing that is here is overwritten.
func TestImportRefuses(t *testing.T) {
	p := pairOf(t)
	_, e := exportOf(t, p, script.Multisig)
	if _, err := p.Payer.Import(t.Context(), e); !errors.Is(err, payer.ErrExportKnown) {
		t.Errorf("over a record that knows more: %v", err)
	}
	lose(p)
	for name, c := range map[string]struct {
		change func(*payer.Export)
		want   error
	}{
		"another network":   {func(e *payer.Export) { e.Terms.Network = "mainnet" }, payer.ErrExportNetwork},
		"another key":       {func(e *payer.Export) { e.KeyIndex += 7 }, payer.ErrExportSeed},
		"another capacity":  {func(e *payer.Export) { e.Terms.Capacity-- }, payer.ErrExportContent},
		"another expiry":    {func(e *payer.Export) { e.Terms.Expiry++ }, payer.ErrExportContent},
		"another output":    {func(e *payer.Export) { e.Terms.Outpoint.Index = 9 }, payer.ErrExportContent},
		"no refund":         {func(e *payer.Export) { e.RefundSig = nil }, payer.ErrExportContent},
		"a forged refund":   {func(e *payer.Export) { e.RefundSig = bytes.Clone(e.RefundSig); e.RefundSig[9] ^= 1 }, payer.ErrExportContent},
		"a forged payment":  {func(e *payer.Export) { e.Newest.Amount = 5000 }, payer.ErrExportContent},
		"a state of none":   {func(e *payer.Export) { e.Held.Amount = 5 }, payer.ErrExportContent},
		"a state of duplex": {func(e *payer.Export) { e.Held.Epoch = 2 }, payer.ErrExportContent},
		"no transaction":    {func(e *payer.Export) { e.FundingTx = nil }, payer.ErrExportContent},
		"another's refund":  {func(e *payer.Export) { e.RefundTx = e.FundingTx }, payer.ErrExportContent},
	} {
		changed := e
		c.change(&changed)
		if _, err := p.Payer.Import(t.Context(), changed); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if all, err := p.Payer.Records(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("saved %d channels, %v", len(all), err)
	}
}

// An export that was changed to refund to somebody else pays this wallet all the same,
// and its key is not used for another channel.
func TestPitfall19_ImportedKeyAndScript(t *testing.T) {
	p := pairtest.New(t)
	p.Open(script.Taproot)
	_, e := exportOf(t, p, script.Taproot) // the second key
	thief := bytes.Clone(e.RefundScript)
	thief[5] ^= 1
	e.RefundScript = thief
	lose(p)
	got, err := p.Payer.Import(t.Context(), e)
	wantNil(t, err)
	if bytes.Equal(got.Record.RefundScript, thief) {
		t.Error("the refund goes where the file says")
	}
	if r := p.Prepare(p.Offer(), script.Taproot); r.KeyIndex <= e.KeyIndex {
		t.Errorf("key %d again, after %d", r.KeyIndex, e.KeyIndex)
	}
	wantNil(t, payer.SkipKeys(t.Context(), p.PayerDisk, 99))
	wantNil(t, payer.SkipKeys(t.Context(), p.PayerDisk, 3))
	if r := p.Prepare(p.Offer(), script.Taproot); r.KeyIndex != 100 {
		t.Errorf("key %d after 99", r.KeyIndex)
	}
	wantNil(t, p.PayerDisk.Commit(t.Context(), store.Op{Bucket: "payer/meta", Key: "next-key", Value: []byte("x"), Expect: store.Any}))
	if err := payer.SkipKeys(t.Context(), p.PayerDisk, 3); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
}

// A channel that ended is not saved; one whose funding is not there is watched, and
// lives where it appears.
func TestImportAsTheChainStands(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Taproot)
	unborn, err := p.Payer.Export(t.Context(), r.Terms.ID())
	wantNil(t, err)
	op, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantNil(t, err)
	id, over := exportOf(t, p, script.Taproot)
	_, err = p.Buy(id, 0)
	wantNil(t, err)
	u, err := p.Payer.Newest(t.Context(), id)
	wantNil(t, err)
	_, err = p.Payee.Settle(t.Context(), id, &u, true)
	wantNil(t, err)
	p.Mine(int(p.Policy.Burial))
	lose(p)
	got, err := p.Payer.Import(t.Context(), over)
	wantNil(t, err)
	if !got.Over || got.Record.Phase != channel.Closed {
		t.Errorf("a channel that is over: %+v", got)
	}
	if next := p.Prepare(p.Offer(), script.Taproot); next.Terms.PayerKey == over.Terms.PayerKey || next.KeyIndex <= over.KeyIndex {
		t.Errorf("key %d of a channel that is over is used again, as key %d", over.KeyIndex, next.KeyIndex)
	}
	if got, err = p.Payer.Import(t.Context(), unborn); err != nil || got.Over || got.Record.FundingSent {
		t.Fatalf("a channel that never was: %+v, %v", got, err)
	}
	sent := len(p.Chain.Sent())
	wantNil(t, p.StepPayer())
	if len(p.Chain.Sent()) != sent {
		t.Error("its funding was sent")
	}
	_, err = p.Payee.Open(t.Context(), o, op) // the payee had it, and broadcasts it
	wantNil(t, err)
	p.Mine(int(o.Expiry - o.Tip))
	wantNil(t, p.StepPayer())
	p.Mine(int(p.Policy.Burial))
	wantNil(t, p.StepPayer())
	if now, err := p.Payer.Record(t.Context(), r.Terms.ID()); err != nil || now.Phase != channel.Refunded {
		t.Errorf("phase %s, %v", now.Phase, err)
	}
}

// The seed is told from another one, and the file holds no secret of it.
func TestPitfall45_ExportHoldsNoKey(t *testing.T) {
	p := pairOf(t)
	for _, kind := range kinds {
		id, e := exportOf(t, p, kind)
		raw, err := e.Encode()
		wantNil(t, err)
		k, err := p.PayerKeys.PayerChannelKey(e.KeyIndex)
		wantNil(t, err)
		mac, err := p.Payer.MACKey(t.Context(), id)
		wantNil(t, err)
		secret := k.Serialize()
		for _, s := range []channel.Hex{secret, mac[:]} {
			if strings.Contains(string(raw), s.String()) {
				t.Errorf("%s: a secret is in the export", kind)
			}
		}
	}
	_, e := exportOf(t, p, script.Taproot)
	other, err := keys.FromMnemonic("zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong", devnet.Params())
	wantNil(t, err)
	p.PayerKeys = other
	lose(p)
	if _, err := p.Payer.Import(t.Context(), e); !errors.Is(err, payer.ErrExportSeed) {
		t.Errorf("another seed: %v", err)
	}
	if _, err := wallet.New(t.Context(), wallet.Config{Keys: other, Chain: p.Chain, Store: p.PayerDisk, Params: devnet.Params()}); err != nil {
		t.Error(err)
	}
}

// Anything but what Encode wrote, in whatever layout, is refused for what it is.
func TestDecodeExport(t *testing.T) {
	_, e := exportOf(t, pairtest.New(t), script.Multisig)
	raw, err := e.Encode()
	wantNil(t, err)
	text := string(raw)
	var flat bytes.Buffer
	wantNil(t, json.Compact(&flat, raw))
	if _, err := payer.DecodeExport(flat.Bytes()); err != nil {
		t.Errorf("without white space: %v", err)
	}
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":             {"", payer.ErrExport},
		"no JSON":           {"abandon abandon about", payer.ErrExport},
		"another JSON":      {`{"type":"result"}`, payer.ErrExport},
		"null":              {"null", payer.ErrExport},
		"half":              {text[:len(text)/2], payer.ErrExport},
		"twice":             {text + text, payer.ErrExport},
		"a newer version":   {strings.Replace(text, `"version": 1`, `"version": 2`, 1), payer.ErrExportNewer},
		"a version of none": {strings.Replace(text, `"version": 1`, `"version": 0`, 1), payer.ErrExport},
		"no checksum":       {strings.Replace(text, `"sha256"`, `"sha257"`, 1), payer.ErrExport},
		"a changed digit":   {strings.Replace(text, `"expiry": `, `"expiry": 1`, 1), payer.ErrExport},
		"an unknown field":  {strings.Replace(text, `"origin"`, `"orogin"`, 1), payer.ErrExport},
		"a field twice":     {strings.Replace(text, `"version": 1`, `"version": 1, "version": 1`, 1), payer.ErrExport},
		"an upper case":     {strings.Replace(text, `"format"`, `"Format"`, 1), payer.ErrExport},
		"too long":          {text + strings.Repeat(" ", 3<<20), payer.ErrExport},
	} {
		if _, err := payer.DecodeExport([]byte(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// sealed puts a checksum that is right on whatever content.
func sealed(inner []byte) []byte {
	sum := sha256.Sum256(inner)
	return fmt.Appendf(nil, `{"format":"spillway channel export","version":1,"sha256":"%x","channel":%s}`, sum, inner)
}

// FuzzDecodeExport: whatever is read is refused with an error that says what it is, or
// is an export that encodes to the same, fits together, and can be imported or refused.
func FuzzDecodeExport(f *testing.F) {
	p := pairOf(f)
	var good [][]byte
	for _, kind := range kinds {
		_, e := exportOf(f, p, kind)
		raw, err := e.Encode()
		if err != nil {
			f.Fatal(err)
		}
		inner, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		good = append(good, inner)
		f.Add(raw, uint16(0), byte(0))
		f.Add(inner, uint16(0), byte(0))
		f.Add(raw, uint16(700), byte(1))
		for i := range uint16(6) {
			f.Add(inner, 31+i*uint16(len(inner)/7), byte(1))
		}
	}
	f.Add([]byte(`{"format":"spillway channel export","version":1,"sha256":"","channel":{}}`), uint16(0), byte(0))
	f.Add([]byte(`{}`), uint16(3), byte(2))
	lose(p)
	f.Fuzz(func(t *testing.T, raw []byte, at uint16, flip byte) {
		if len(raw) < 4 {
			raw = good[len(raw)]
		}
		raw = bytes.Clone(raw)
		raw[int(at)%len(raw)] ^= flip
		if !bytes.Contains(raw, []byte("sha256")) {
			raw = sealed(raw)
		}
		e, err := payer.DecodeExport(raw)
		if err != nil {
			if !errors.Is(err, payer.ErrExport) && !errors.Is(err, payer.ErrExportNewer) && !errors.Is(err, payer.ErrExportContent) {
				t.Fatalf("%v", err)
			}
			return
		}
		text, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := payer.DecodeExport(text); err != nil {
			t.Fatalf("what was read is not written again: %v", err)
		}
		if _, err := p.Payer.Import(context.Background(), e); err != nil && !errors.Is(err, payer.ErrExportKnown) &&
			!errors.Is(err, payer.ErrExportSeed) && !errors.Is(err, payer.ErrExportNetwork) {
			t.Fatal(err)
		}
	})
}
