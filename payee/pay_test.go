package payee_test

import (
	"errors"
	"testing"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

const price = pairtest.Price

// TestPitfall54_ByChunk: a chunk is charged once per channel, however often, in whatever
// requests, over whatever connections it is asked for.
func TestPitfall54_ByChunk(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	ahead := p.Update(id, 20_000)
	_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &ahead})
	wantNil(t, err)
	for _, c := range []struct {
		chunks []uint64
		fresh  uint64
	}{{[]uint64{0}, price}, {[]uint64{0}, 0}, {[]uint64{0, 1, 2}, 2 * price}, {[]uint64{2, 2, 1}, 0}, {[]uint64{5000, 0}, price}, {[]uint64{5000}, 0}} {
		got, err := p.Buy(id, c.chunks...)
		wantNil(t, err)
		if got.Fresh != c.fresh {
			t.Fatalf("chunks %v: charged %d, want %d", c.chunks, got.Fresh, c.fresh)
		}
		p.RestartPayee()
	}
	done, err := p.Payee.Charged(t.Context(), id, []payee.Item{pairtest.Item(0), pairtest.Item(3), pairtest.Item(5000)})
	wantNil(t, err)
	if !done[0] || done[3] || !done[5000] {
		t.Fatalf("%v", done)
	}
	other := pairtest.Item(0) // the first chunk of another file is another chunk
	other.Resource[0]++
	got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Items: []payee.Item{other}, Credit: p.Credit})
	wantNil(t, err)
	if got.Fresh != price {
		t.Fatalf("another file's chunk cost %d", got.Fresh)
	}
}

// A request that is refused charges none of its chunks.
func TestRefusedRequestChargesNothing(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	_, err := p.Buy(id, 0, 1)
	wantErr(t, err, channel.ErrInsufficient)
	done, err := p.Payee.Charged(t.Context(), id, []payee.Item{pairtest.Item(0), pairtest.Item(1)})
	wantNil(t, err)
	if done[0] || done[1] {
		t.Fatalf("%v", done)
	}
	if r, _ := p.Payee.Record(t.Context(), id); r.Charged != 0 {
		t.Fatalf("charged %d", r.Charged)
	}
}

// TestPitfall53_AtOnce: many requests at once get what the credit allows, and no more;
// many requests for one chunk are charged once.
func TestPitfall53_AtOnce(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	type answer struct {
		got payee.Receipt
		err error
	}
	ask := func(chunk func(i int) uint64) (released, fresh int) {
		answers := make(chan answer)
		for i := range 16 {
			go func() {
				got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Items: []payee.Item{pairtest.Item(chunk(i))}, Credit: p.Credit})
				answers <- answer{got, err}
			}()
		}
		for range 16 {
			a := <-answers
			if a.err == nil {
				released++
				fresh += int(a.got.Fresh)
			} else if !errors.Is(a.err, channel.ErrInsufficient) {
				t.Error(a.err)
			}
		}
		return released, fresh
	}
	if released, fresh := ask(func(i int) uint64 { return uint64(i) }); released != 1 || fresh != price {
		t.Fatalf("%d chunks on a credit of one, %d msat", released, fresh)
	}
	u := p.Update(id, 1000)
	_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	wantNil(t, err)
	if released, fresh := ask(func(int) uint64 { return 99 }); released != 16 || fresh != price {
		t.Fatalf("one chunk was released %d times and charged %d msat", released, fresh)
	}
}

// TestPitfall23_SavedBeforeReleased: where the charge is not saved nothing is released; where
// it was saved and the answer was lost, a retry is free.
func TestPitfall23_SavedBeforeReleased(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	p.PayeeDisk.FailNext(store.ErrFull)
	_, err := p.Buy(id, 0)
	wantErr(t, err, store.ErrFull)
	if r, _ := p.Payee.Record(t.Context(), id); r.Charged != 0 {
		t.Fatalf("charged %d", r.Charged)
	}
	p.PayeeDisk.FailButPersistNext(pairtest.ErrInjected)
	_, err = p.Buy(id, 0)
	wantErr(t, err, pairtest.ErrInjected)
	got, err := p.Buy(id, 0)
	wantNil(t, err)
	if got.Fresh != 0 || got.Charged != price {
		t.Fatalf("%+v", got)
	}
}

// TestPitfall66_OneCommit: record, charged chunks and pool are saved in one commit.
func TestPitfall66_OneCommit(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	before := len(p.PayeeDisk.Commits())
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	commits := p.PayeeDisk.Commits()[before:]
	if len(commits) != 1 {
		t.Fatalf("%d commits for one chunk", len(commits))
	}
	buckets := map[string]bool{}
	for _, op := range commits[0] {
		buckets[op.Bucket] = true
		if op.Expect == store.Any {
			t.Errorf("%s is written blindly", op.Bucket)
		}
	}
	for _, b := range []string{"payee/channel", "payee/charged", "payee/pool"} {
		if !buckets[b] {
			t.Errorf("%s is not in the commit of the charge", b)
		}
	}
	u := p.Update(id, 1000)
	_, err = p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	wantNil(t, err)
	last := p.PayeeDisk.Commits()[len(p.PayeeDisk.Commits())-1]
	if len(last) != 2 {
		t.Fatalf("a payment and what it gives back to the pool are %d ops of one commit", len(last))
	}
}

// TestPitfall66_Thieves: all fresh channels that pay nothing get the pool together, also
// over restarts, and honest ones wait for no more than a place.
func TestPitfall66_Thieves(t *testing.T) {
	p := pairtest.New(t)
	p.Policy.PoolChunks = 2
	p.RestartPayee()
	p.Coins(3)
	stolen := 0
	for range 4 {
		id := p.Open(script.Taproot)
		p.RestartPayee()
		got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Items: []payee.Item{pairtest.Item(0)}, Credit: p.Credit})
		if err == nil && got.Fresh > 0 {
			stolen++
		} else if !errors.Is(err, channel.ErrInsufficient) {
			t.Fatal(err)
		}
	}
	if stolen != 2 {
		t.Fatalf("%d chunks from a pool of two", stolen)
	}
	if o := p.Offer(); o.Credit != 0 {
		t.Fatalf("a full pool still offers a credit of %d msat", o.Credit)
	}
	p.Mine(144)
	if o := p.Offer(); o.Credit != price {
		t.Fatalf("after 144 blocks the credit on offer is %d msat", o.Credit)
	}
}

// TestPitfall20_Vouchers: a stale or equal update succeeds without effect, one with a wrong
// signature, or above the capacity, is refused.
func TestPitfall20_Vouchers(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	pay := func(u channel.Update) (payee.Receipt, error) {
		return p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	}
	for _, amount := range []uint64{500, 500, 499, 0, 501} {
		got, err := pay(p.Update(id, amount))
		wantNil(t, err)
		if want := max(500, amount); got.Paid != want {
			t.Fatalf("after %d sat: paid %d", amount, got.Paid)
		}
	}
	before := len(p.PayeeDisk.Commits())
	forged := p.Update(id, 600)
	forged.Amount = 601
	_, err := pay(forged)
	wantErr(t, err, channel.ErrSignature)
	_, err = pay(channel.Update{Amount: pairtest.Capacity + 1, Signature: forged.Signature})
	wantErr(t, err, channel.ErrAmountExceeds)
	_, err = pay(channel.Update{Amount: pairtest.Capacity - 1, Signature: forged.Signature})
	wantErr(t, err, channel.ErrAmountExceeds)
	if len(p.PayeeDisk.Commits()) != before {
		t.Fatal("a refused update was saved")
	}
	p.RestartPayee()
	got, err := p.Payee.Resume(t.Context(), id)
	wantNil(t, err)
	if want := p.Update(id, 501); got.Record.Paid != 501 || got.Record.Signature.String() != want.Signature.String() {
		t.Fatalf("resume shows %d sat", got.Record.Paid)
	}
}

// Where the chain can't be asked nothing is delivered, and an update is kept.
func TestChainUnreachable(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	p.Wait(time.Minute) // what was seen is too old
	p.Chain.Down(true)
	u := p.Update(id, 1000)
	got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u, Items: []payee.Item{pairtest.Item(1)}, Credit: p.Credit})
	wantErr(t, err, payee.ErrStale)
	wantErr(t, err, chain.ErrUnavailable)
	if got.Paid != 1000 || got.Charged != price {
		t.Fatalf("%+v", got)
	}
	p.RestartPayee()
	if r, _ := p.Payee.Record(t.Context(), id); r.Paid != 1000 {
		t.Fatalf("the update was lost: paid %d", r.Paid)
	}
}

// While the funding is deep, requests within some seconds ask the chain once.
func TestViewIsKeptForSeconds(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	asked := p.Chain.Asked()
	for range 20 {
		_, err = p.Buy(id, 0)
		wantNil(t, err)
	}
	if got := p.Chain.Asked(); got != asked {
		t.Fatalf("%d questions for 20 requests", got-asked)
	}
	p.Wait(21 * time.Second)
	_, err = p.Buy(id, 0)
	wantNil(t, err)
	if p.Chain.Asked() == asked {
		t.Fatal("what was seen 21 seconds ago was taken for the present")
	}
}

// TestPitfall62_RestoredDriver: after a restore channels take updates and deliver nothing;
// new ones are not concerned.
func TestPitfall62_RestoredDriver(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	u := p.Update(id, 1500)
	_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	wantNil(t, err)
	wantNil(t, p.Payee.MarkRestored(t.Context()))
	r, err := p.Payee.Record(t.Context(), id)
	wantNil(t, err)
	if !r.Restored || r.Charged != 1500*1000 {
		t.Fatalf("restored %v, charged %d", r.Restored, r.Charged)
	}
	u = p.Update(id, 5000)
	got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u, Items: []payee.Item{pairtest.Item(0)}, Credit: p.Credit})
	wantErr(t, err, channel.ErrExpiring)
	if got.Paid != 5000 || got.Charged != 1500*1000 {
		t.Fatalf("%+v", got)
	}
	fresh := p.Open(script.Taproot)
	_, err = p.Buy(fresh, 0)
	wantNil(t, err)
}

// A damaged record or page is named, and nothing is charged on it.
func TestDamagedState(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	pages, err := p.PayeeDisk.List(t.Context(), "payee/charged", "")
	wantNil(t, err)
	wantNil(t, p.PayeeDisk.Commit(t.Context(), store.Op{Bucket: "payee/charged", Key: pages[0].Key, Value: []byte{1}, Expect: store.Any}))
	_, err = p.Buy(id, 1)
	wantErr(t, err, store.ErrDamaged)
	wantNil(t, p.PayeeDisk.Commit(t.Context(), store.Op{Bucket: "payee/channel", Key: id, Value: []byte("{"), Expect: store.Any}))
	_, err = p.Payee.Record(t.Context(), id)
	wantErr(t, err, store.ErrDamaged)
	_, err = p.Payee.Records(t.Context())
	wantErr(t, err, store.ErrDamaged)
}
