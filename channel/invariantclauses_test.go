package channel

import (
	"testing"

	"github.com/spillway/spillway/script"
)

// No part of the terms may change, on either side.
func TestNoTermChanges(t *testing.T) {
	for name, change := range map[string]func(*Terms){
		"outpoint": func(t *Terms) { t.Outpoint.Index++ }, "capacity": func(t *Terms) { t.Capacity++ }, "expiry": func(t *Terms) { t.Expiry++ },
		"margin": func(t *Terms) { t.Margin++ }, "K1": func(t *Terms) { t.PayerKey[5] ^= 1 }, "K2": func(t *Terms) { t.PayeeKey[5] ^= 1 },
		"nonce": func(t *Terms) { t.Nonce[5] ^= 1 }, "kind": func(t *Terms) { t.Construction = script.Multisig }, "version": func(t *Terms) { t.TxVersion = 2 },
		"network": func(t *Terms) { t.Network = "mainnet" }, "confirmations": func(t *Terms) { t.Confirmations++ }, "zero-conf": func(t *Terms) { t.ZeroConf++ },
		"credit": func(t *Terms) { t.Credit++ }, "F": func(t *Terms) { t.MinimumCharge++ }, "step": func(t *Terms) { t.Step++ },
		"rest": func(t *Terms) { t.RestScript = p2tr(0x70) }, "the payee's rest": func(t *Terms) { t.PayeeRest = p2tr(0x70) },
	} {
		sells, buys := seller(), buyer()
		oldSells, oldBuys := sells, buys
		change(&sells.Terms)
		change(&buys.Terms)
		if brokenRule(sells.Follows(&oldSells, &Step{})) != "terms" || brokenRule(buys.Follows(&oldBuys)) != "terms" {
			t.Errorf("another %s is taken", name)
		}
	}
}

// What is at the edge, and no violation: else somebody would stop a channel with it.
func TestSoundAtTheEdge(t *testing.T) {
	for name, change := range map[string]func(*PayeeRecord){
		"all is paid and charged":        func(r *PayeeRecord) { r.Paid, r.Charged = capacity, capacity*sat },
		"nothing is paid":                func(r *PayeeRecord) { r.Paid, r.Charged, r.Signature = 0, 0, nil },
		"the largest capacity":           func(r *PayeeRecord) { r.Terms.Capacity = MaxSat },
		"closing at no fee":              func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000); r.Close.Fee = 0 },
		"closing at all":                 func(r *PayeeRecord) { r.Phase, r.Paid, r.Charged, r.Close = Closing, capacity, 1, closeAt(capacity) },
		"closing, all for fees":          func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000); r.Close.Fee = int64(capacity) },
		"closed with a close":            func(r *PayeeRecord) { r.Phase, r.Close = Closed, closeAt(5000) },
		"settled at all":                 func(r *PayeeRecord) { r.Phase, r.Paid, r.Settlement = Settling, capacity, settledAt(capacity, 1) },
		"settled at what was paid":       func(r *PayeeRecord) { r.Phase, r.Settlement = Settling, settledAt(5000, 1000) },
		"a settlement without a fee":     func(r *PayeeRecord) { r.Phase, r.Settlement = Settling, settledAt(5000, 1); r.Settlement.Fee = 0 },
		"a duplex ledger of everything":  func(r *PayeeRecord) { sellerBothWays(r); r.Charged = capacity * sat },
		"a duplex channel with nothing":  func(r *PayeeRecord) { sellerBothWays(r); r.Paid, r.Charged, r.Duplex = 0, 0, &Duplex{} },
		"a duplex state of all there is": func(r *PayeeRecord) { sellerBothWays(r); r.Paid, r.Duplex.Held.Amount = capacity, capacity },
	} {
		r := seller(change)
		if err := r.Sound(); err != nil {
			t.Errorf("a payee's, %s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*PayerRecord){
		"all is signed":     func(r *PayerRecord) { r.Signed, r.Owed = capacity, MaxSat*1000 },
		"nothing is signed": func(r *PayerRecord) { r.Signed, r.Owed, r.Signature = 0, 0, nil },
		"prepared":          func(r *PayerRecord) { r.Phase, r.Signed, r.Owed, r.FundingSent = Prepared, 0, 0, false },
		"prepared, multisig": func(r *PayerRecord) {
			r.Phase, r.Signed, r.Owed, r.FundingSent, r.Terms.Construction = Prepared, 0, 0, false, script.Multisig
		},
		"prepared, duplex, without states": func(r *PayerRecord) {
			buyerBothWays(r)
			r.Phase, r.Signed, r.Owed, r.FundingSent, r.Duplex = Prepared, 0, 0, false, nil
		},
		"abandoned, multisig": func(r *PayerRecord) { r.Phase, r.Terms.Construction = Abandoned, script.Multisig },
		"multisig":            func(r *PayerRecord) { r.Terms.Construction, r.RefundSig = script.Multisig, Hex{1} },
		"closing":             func(r *PayerRecord) { r.Phase, r.Close = Closing, &PayerClose{Txid: "a"} },
		"refunding":           func(r *PayerRecord) { r.Phase, r.Refund = Refunding, settledAt(0, 1) },
	} {
		r := buyer(change)
		if err := r.Sound(); err != nil {
			t.Errorf("a payer's, %s: %v", name, err)
		}
	}
}

// What is beyond the edge by one.
func TestUnsoundBeyondTheEdge(t *testing.T) {
	settling := func(change func(*Broadcast)) func(*PayeeRecord) {
		return func(r *PayeeRecord) {
			r.Phase, r.Settlement = Settling, settledAt(5000, 1000)
			change(r.Settlement)
		}
	}
	closing := func(change func(*PayeeRecord)) func(*PayeeRecord) {
		return func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000); change(r) }
	}
	for _, row := range []struct {
		name, rule string
		change     func(*PayeeRecord)
	}{
		{"the capacity", "capacity", func(r *PayeeRecord) { r.Terms.Capacity = MaxSat + 1 }},
		{"no expiry and no margin", "time", func(r *PayeeRecord) { r.Terms.Expiry, r.Terms.Margin = 0, 0 }},
		{"a settlement without its id", "settlement", settling(func(b *Broadcast) { b.Txid = "" })},
		{"a settlement without a transaction", "settlement", settling(func(b *Broadcast) { b.Tx = nil })},
		{"a settlement that pays miners all coins", "settlement", settling(func(b *Broadcast) { b.Fee = MaxSat + 1 })},
		{"a settlement with a fee below nothing", "settlement", settling(func(b *Broadcast) { b.Fee = -1 })},
		{"a duplex settlement above the capacity", "settlement", func(r *PayeeRecord) { sellerBothWays(r); settling(func(b *Broadcast) { b.Amount = capacity + 1 })(r) }},
		{"a close above the capacity", "close", closing(func(r *PayeeRecord) { sellerBothWays(r); r.Close.Amount = capacity + 1 })},
		{"a close that pays miners more than there is", "close", closing(func(r *PayeeRecord) { r.Close.Fee = int64(capacity) + 1 })},
		{"a close in funding", "close", closing(func(r *PayeeRecord) { r.Phase = Funding })},
	} {
		r := seller(row.change)
		if got := brokenRule(r.Sound()); got != row.rule {
			t.Errorf("%s: %q, want %q", row.name, got, row.rule)
		}
	}
	begun := buyer(func(r *PayerRecord) { r.Phase, r.Signed, r.Owed, r.FundingSent = Prepared, 0, 0, false })
	for name, change := range map[string]func(*PayerRecord){
		"stopped": func(r *PayerRecord) { r.Stopped = "x" }, "with a refund": func(r *PayerRecord) { r.Refund = settledAt(0, 1) },
		"with a close": func(r *PayerRecord) { r.Close = &PayerClose{Txid: "a"} }, "with something signed": func(r *PayerRecord) { r.Signed, r.Signature = 1000, Hex{1} },
		"with something owed": func(r *PayerRecord) { r.Owed = 1 }, "imported, and over": func(r *PayerRecord) { r.Imported, r.Phase = true, Closed },
		"imported, and not sent": func(r *PayerRecord) { r.Imported = true },
	} {
		r := begun
		change(&r)
		if r.Begins() == nil {
			t.Errorf("a payer's record begins %s", name)
		}
	}
	imported := buyer(func(r *PayerRecord) { r.Imported = true })
	if err := imported.Begins(); err != nil {
		t.Errorf("an imported one: %v", err)
	}
}

// Steps that both sides take, at the edge of what is forbidden: none stops a channel.
func TestStepsThatAreTaken(t *testing.T) {
	closing := func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000) }
	settling := func(r *PayeeRecord) { r.Phase, r.Settlement = Settling, settledAt(5000, 2000) }
	more := func(r *PayeeRecord) { r.Charged += chunk }
	charge := func(change ...func(*View)) *Step {
		return &Step{Charges: true, Credit: chunk, View: at(500, change...)}
	}
	for name, c := range map[string]struct {
		old, change func(*PayeeRecord)
		step        *Step
	}{
		"nothing":                     {nil, func(*PayeeRecord) {}, nil},
		"paid":                        {nil, func(r *PayeeRecord) { r.Paid, r.Signature = 6000, Hex{6} }, nil},
		"paid while settling":         {settling, func(r *PayeeRecord) { r.Paid, r.Signature = 6000, Hex{6} }, nil},
		"charged up to the credit":    {nil, more, charge()},
		"charged in the last block":   {nil, more, &Step{Charges: true, Credit: chunk, View: at(lastBlock)}},
		"charged on the terms credit": {func(r *PayeeRecord) { r.Terms.Credit = chunk }, more, &Step{Charges: true, View: at(500)}},
		"charged within the zero-conf limit": {func(r *PayeeRecord) {
			r.Paid, r.Charged, r.Phase, r.Terms.ZeroConf, r.Place = 0, 0, Funding, chunk, true
		}, more, &Step{Charges: true, Credit: chunk, View: at(500, unconfirmed), Pool: Pool{Places: map[string]Place{terms().ID(): {Reserved: chunk, Owed: chunk}}}}},
		"a dearer chunk":               {nil, func(r *PayeeRecord) { r.MaxPrice = 7 }, nil},
		"the funding is seen":          {func(r *PayeeRecord) { r.FundingTx = nil }, func(r *PayeeRecord) { r.FundingTx = Hex{1} }, nil},
		"restored":                     {nil, func(r *PayeeRecord) { r.Restored = true }, nil},
		"restored, charged is paid":    {func(r *PayeeRecord) { r.Charged = 0 }, func(r *PayeeRecord) { r.Restored, r.Charged = true, 5000*sat }, nil},
		"closing":                      {nil, closing, nil},
		"answered anew":                {closing, func(r *PayeeRecord) { r.Close = closeAt(5000); r.Close.PayeeNonce = Hex{2} }, nil},
		"the close completed":          {closing, func(r *PayeeRecord) { r.Close = closeAt(5000); r.Close.FinalTx = Hex{2} }, nil},
		"a completed close again":      {func(r *PayeeRecord) { closing(r); r.Close.FinalTx = Hex{2} }, func(r *PayeeRecord) { r.Close = closeAt(5000); r.Close.FinalTx = Hex{2} }, nil},
		"settled in closing":           {closing, func(r *PayeeRecord) { r.Settlement = settledAt(5000, 1000) }, nil},
		"the same rate and amount":     {settling, func(r *PayeeRecord) { r.Settlement = settledAt(5000, 2000); r.Settlement.Txid = "t" }, nil},
		"alone after a batch, at less": {func(r *PayeeRecord) { settling(r); r.Settlement.Batch = []string{"a", "b"} }, func(r *PayeeRecord) { r.Settlement = settledAt(5000, 1000); r.Settlement.Txid = "t" }, nil},
		"the same settlement":          {settling, func(r *PayeeRecord) { r.Settlement = settledAt(5000, 2000) }, nil},
		"stopped":                      {nil, func(r *PayeeRecord) { r.Stopped = "x" }, nil},
		"settled while stopped":        {func(r *PayeeRecord) { settling(r); r.Stopped = "x" }, func(r *PayeeRecord) { r.Settlement = settledAt(5000, 3000) }, nil},
		"closed while stopped":         {func(r *PayeeRecord) { closing(r); r.Stopped = "x" }, func(r *PayeeRecord) { r.Phase = Closed }, nil},
		"both ways, a newer state": {sellerBothWays, func(r *PayeeRecord) {
			r.Paid, r.Duplex = 4500, &Duplex{Held: Update{Epoch: 1, Amount: 4500, Signature: Hex{9}}}
		}, nil},
		"both ways, charged falls": {sellerBothWays, func(r *PayeeRecord) { r.Charged-- }, nil},
	} {
		old := seller()
		if c.old != nil {
			c.old(&old)
		}
		next := old
		c.change(&next)
		if c.step == nil {
			c.step = &Step{}
		}
		if err := next.Follows(&old, c.step); err != nil {
			t.Errorf("a payee's, %s: %v", name, err)
		}
	}
	agreed := func(r *PayerRecord) { r.Phase, r.Close = Closing, &PayerClose{Txid: "a"} }
	for name, c := range map[string]struct{ old, change func(*PayerRecord) }{
		"nothing":                      {nil, func(*PayerRecord) {}},
		"signed":                       {nil, func(r *PayerRecord) { r.Owed, r.Signed, r.Signature = 6000*sat, 6000, Hex{6} }},
		"verified":                     {nil, func(r *PayerRecord) { r.Owed++ }},
		"accepted":                     {func(r *PayerRecord) { r.Accepted = false }, func(r *PayerRecord) { r.Accepted = true }},
		"accepted before":              {func(r *PayerRecord) { r.Accepted = true }, func(r *PayerRecord) { r.Owed++ }},
		"given up before":              {func(r *PayerRecord) { r.GivenUp = true }, func(r *PayerRecord) { r.Phase = Abandoned }},
		"the refund's signature stays": {func(r *PayerRecord) { r.RefundSig = Hex{1} }, func(r *PayerRecord) { r.Owed++ }},
		"the same close":               {agreed, func(r *PayerRecord) { r.Close = &PayerClose{Txid: "a", Tx: Hex{1}} }},
		"refunding after a close":      {agreed, func(r *PayerRecord) { r.Phase, r.Refund = Refunding, settledAt(0, 1000) }},
		"a refund at the same rate":    {func(r *PayerRecord) { r.Phase, r.Refund = Refunding, settledAt(0, 2000) }, func(r *PayerRecord) { r.Refund = settledAt(0, 2000) }},
		"stopped":                      {nil, func(r *PayerRecord) { r.Stopped = "x" }},
		"the first signature":          {func(r *PayerRecord) { r.Signed, r.Signature = 0, nil }, func(r *PayerRecord) { r.Signature = Hex{3} }},
		"signed, to be added":          {func(r *PayerRecord) { r.Signed, r.Signature = 0, nil }, func(r *PayerRecord) { r.Signed = 1000 }},
		"over, looked at again":        {func(r *PayerRecord) { r.Phase = Closed }, func(r *PayerRecord) { r.SpentBy = "x" }},
		"opened both ways":             {func(r *PayerRecord) { r.Phase, r.Signed, r.Owed, r.Signature = Prepared, 0, 0, nil }, func(r *PayerRecord) { r.Phase, r.Signature, r.Duplex = Funding, Hex{3}, &Duplex{} }},
		"both ways, a cheaper refund of another state": {func(r *PayerRecord) { buyerBothWays(r); r.Phase, r.Refund = Settling, settledAt(0, 2000) }, func(r *PayerRecord) { r.Refund = settledAt(0, 1000) }},
		"refunded while stopped":                       {func(r *PayerRecord) { r.Stopped = "x" }, func(r *PayerRecord) { r.Phase, r.Refund = Refunding, settledAt(0, 2000) }},
		"imported, seen":                               {func(r *PayerRecord) { r.Imported = true }, func(r *PayerRecord) { r.Phase = Refunding }},
		"both ways, the ledger falls":                  {buyerBothWays, func(r *PayerRecord) { r.Owed-- }},
		"another settlement, settling":                 {func(r *PayerRecord) { r.Phase, r.Close = Settling, &PayerClose{Txid: "a"} }, func(r *PayerRecord) { r.Close = &PayerClose{Txid: "b"} }},
	} {
		old := buyer()
		if c.old != nil {
			c.old(&old)
		}
		next := old
		c.change(&next)
		if err := next.Follows(&old); err != nil {
			t.Errorf("a payer's, %s: %v", name, err)
		}
	}
}

// Each clause of a step that no other one covers.
func TestStepsThatAreNotTaken(t *testing.T) {
	closing := func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000) }
	for name, c := range map[string]struct {
		rule        string
		old, change func(*PayeeRecord)
	}{
		"another limit of newcomers":    {"record", nil, func(r *PayeeRecord) { r.NewcomerAbove++ }},
		"paid when it is over":          {"final", func(r *PayeeRecord) { r.Phase = Closed }, func(r *PayeeRecord) { r.Paid, r.Signature = 6000, Hex{6} }},
		"the same close in other bytes": {"close", closing, func(r *PayeeRecord) { r.Close = closeAt(5000); r.Close.Tx = Hex{2} }},
		"the same close at more":        {"close", closing, func(r *PayeeRecord) { r.Close = closeAt(5001) }},
		"a close, and settling":         {"close", nil, func(r *PayeeRecord) { r.Phase, r.Close = Settling, closeAt(5000) }},
		"stopped, and paid at once":     {"stopped", nil, func(r *PayeeRecord) { r.Stopped, r.Paid, r.Signature = "x", 6000, Hex{6} }},
		"stopped, another reason":       {"stopped", func(r *PayeeRecord) { r.Stopped = "x" }, func(r *PayeeRecord) { r.Stopped = "y" }},
		"stopped, another close":        {"stopped", func(r *PayeeRecord) { closing(r); r.Stopped = "x" }, func(r *PayeeRecord) { r.Close = closeAt(5000); r.Close.PayeeNonce = Hex{7} }},
		"a ledger forgot its withdrawn": {"back-fell", func(r *PayeeRecord) { sellerBothWays(r); r.Duplex.Off = 5 }, sellerBothWays},
	} {
		old := seller()
		if c.old != nil {
			c.old(&old)
		}
		next := old
		c.change(&next)
		if got := brokenRule(next.Follows(&old, &Step{})); got != c.rule {
			t.Errorf("a payee's, %s: %q, want %q", name, got, c.rule)
		}
	}
	for name, c := range map[string]struct {
		rule        string
		old, change func(*PayerRecord)
	}{
		"imported no more":            {"record", func(r *PayerRecord) { r.Imported = true }, func(r *PayerRecord) { r.Imported = false }},
		"given up no more":            {"record", func(r *PayerRecord) { r.GivenUp = true }, func(r *PayerRecord) { r.GivenUp = false }},
		"accepted no more":            {"record", func(r *PayerRecord) { r.Accepted = true }, func(r *PayerRecord) { r.Accepted = false }},
		"stopped, and signed at once": {"stopped", nil, func(r *PayerRecord) { r.Stopped, r.Signed, r.Signature = "x", 6000, Hex{6} }},
		"imported, signed":            {"imported", func(r *PayerRecord) { r.Imported = true }, func(r *PayerRecord) { r.Signed = 6000 }},
		"imported, another signature": {"imported", func(r *PayerRecord) { r.Imported = true }, func(r *PayerRecord) { r.Signature = Hex{8} }},
		"imported, another state": {"imported", func(r *PayerRecord) { buyerBothWays(r); r.Imported = true }, func(r *PayerRecord) {
			r.Duplex = &Duplex{Sent: r.Duplex.Sent, Held: Update{Epoch: 2, Amount: 97_000, Signature: Hex{1}}}
		}},
		"stopped, another signature": {"stopped", func(r *PayerRecord) { r.Stopped = "x" }, func(r *PayerRecord) { r.Signature = Hex{8} }},
		"stopped, signed":            {"stopped", func(r *PayerRecord) { r.Stopped = "x" }, func(r *PayerRecord) { r.Signed = 6000 }},
		"stopped, another state": {"stopped", func(r *PayerRecord) { buyerBothWays(r); r.Stopped = "x" }, func(r *PayerRecord) {
			r.Duplex = &Duplex{Sent: r.Duplex.Sent, Held: Update{Epoch: 2, Amount: 97_000, Signature: Hex{1}}}
		}},
		"stopped, the refund gone": {"refund", func(r *PayerRecord) { r.Stopped, r.Phase, r.Refund = "x", Refunding, settledAt(0, 2000) }, func(r *PayerRecord) { r.Refund = nil }},
	} {
		old := buyer()
		if c.old != nil {
			c.old(&old)
		}
		next := old
		c.change(&next)
		if got := brokenRule(next.Follows(&old)); got != c.rule {
			t.Errorf("a payer's, %s: %q, want %q", name, got, c.rule)
		}
	}
	prepared := buyer(func(r *PayerRecord) { r.Phase, r.Signed, r.Owed, r.FundingSent = Prepared, 0, 0, false })
	for name, change := range map[string]func(*PayerRecord){
		"signed": func(r *PayerRecord) { r.Signed = 1000 }, "sent": func(r *PayerRecord) { r.FundingSent = true },
		"refunded": func(r *PayerRecord) { r.Refund = settledAt(0, 1) }, "closed": func(r *PayerRecord) { r.Close = &PayerClose{Txid: "a"} },
	} {
		r := prepared
		change(&r)
		if got := brokenRule(r.Sound()); got != "phase" {
			t.Errorf("prepared and %s: %q", name, got)
		}
	}
}
