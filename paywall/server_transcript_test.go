package paywall_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

var update = flag.Bool("update", false, "write the transcripts as they are now")

// purchase replays a transcript. Lines that begin with > are requests, with < what
// is answered to them, with * what the payer or the chain does, with # remarks.
type purchase struct {
	*edgetest.Stand
	kind       script.Construction
	id         string
	challenges map[string]*paywall.Quoted // by letter
	last       *edgetest.Reply
	lastPath   string
	closing    *payer.Closing
	final      []byte
	out        strings.Builder
}

// The purchase of three chunks that http-402 describes, request by request. Each is
// replayed once more with the provider's process made anew before every request:
// the answers must be the same.
func TestTranscripts(t *testing.T) {
	none := uint64(0)
	for name, run := range map[string]struct {
		kind   script.Construction
		credit *uint64
	}{
		"taproot":       {script.Taproot, nil},
		"multisig":      {script.Multisig, nil},
		"multisig-p2sh": {script.MultisigP2SH, nil},
		"ahead":         {script.Taproot, &none},
		"duplex":        {script.Duplex, nil},
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restarts=%v", name, restarts), func(t *testing.T) {
				path := filepath.Join("testdata", "purchase-"+name+".txt")
				want, err := os.ReadFile(path)
				must(t, err)
				p := &purchase{Stand: edgetest.New(t, edgetest.Config{Credit: run.credit, Payee: allKinds(run.kind)}), kind: run.kind, challenges: map[string]*paywall.Quoted{}}
				got := p.replay(string(want), restarts)
				if *update && !restarts {
					must(t, os.WriteFile(path, []byte(got), 0o644))
				} else if got != string(want) {
					t.Errorf("the transcript is now:\n%s", got)
				}
			})
		}
	}
}

// allKinds puts duplex channels on offer where they are what is bought in, long enough
// to be reversed.
func allKinds(kind script.Construction) func(*payee.Config) {
	if kind != script.Duplex {
		return nil
	}
	return func(c *payee.Config) {
		c.Constructions, c.Policy.Duration = []script.Construction{script.Taproot, script.Duplex}, 400
	}
}

func (p *purchase) replay(text string, restarts bool) string {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if !strings.HasPrefix(line, "<") {
			p.out.WriteString(line + "\n")
		}
		if restarts && strings.HasPrefix(line, ">") {
			p.Restart()
		}
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case f[0] == ">":
			p.request(f[1:])
		case f[0] == "*":
			p.step(strings.Join(f[1:], " "))
		}
	}
	return p.out.String()
}

// request is "METHOD PATH", unpaid, or "METHOD PATH CHALLENGE ACTION [AMOUNT]".
func (p *purchase) request(f []string) {
	p.T.Helper()
	a := edgetest.Ask{Method: f[0], Path: f[1]}
	if len(f) > 2 {
		amount := ""
		if len(f) > 4 {
			amount = f[4]
		}
		payload := p.payload(f[3], amount)
		a.Key = "key-of-" + f[3] + "-" + strings.Trim(f[0]+f[1], "/")
		a.Credential = p.Seal(p.challenges[f[2]].Challenge, payload, a.Key)
		if payload.Cumulative() != amount {
			p.T.Fatalf("%v: the payer signs %q", f, payload.Cumulative())
		}
	}
	p.last, p.lastPath = p.Do(a), f[1]
	p.show(p.last)
}

func (p *purchase) payload(action, amount string) bitcoin.Payload {
	p.T.Helper()
	switch action {
	case "prepare":
		return p.PrepareOf(p.id)
	case "open":
		return p.OpenOf(p.id)
	case "voucher":
		return p.VoucherOf(p.id)
	case "resume":
		return p.ResumeOf(p.id)
	case "close":
		if amount == "" {
			return bitcoin.Close{ChannelID: p.id, FinalTx: p.final}
		}
		var err error
		p.closing, err = p.Payer.BeginClose(ctx, p.id)
		must(p.T, err)
		c := bitcoin.Close{ChannelID: p.id, CumulativeAmount: p.closing.Update.Amount, Signature: p.closing.Update.Signature}
		if !(channel.Terms{Construction: p.kind}).Cosigned() {
			c.PayerNonce = p.closing.Nonce[:]
		}
		if p.kind == script.Duplex {
			v := p.Voucher(p.id, p.closing.Update)
			c.Epoch, c.LockHeight, c.ChargedMsat = v.Epoch, v.LockHeight, p.closing.Ledger
		}
		return c
	}
	p.T.Fatalf("no action %q", action)
	return nil
}

// show writes an answer: status, what kind of body, the problem's type and what is
// in the receipt. What the payer needs of it is kept.
func (p *purchase) show(r *edgetest.Reply) {
	p.T.Helper()
	line := fmt.Sprintf("< %d", r.Status)
	if r.Problem != nil {
		line += " " + strings.TrimPrefix(r.Problem.Type, mpp.ProblemBase)
		if n := r.Problem.String("requiredCumulative"); n != "" {
			line += " required=" + n
		}
		if r.Header.Get("Retry-After") != "" {
			line += " Retry-After"
		}
	} else if kind := r.Header.Get("Content-Type"); kind != "" && len(r.Body) > 0 {
		line += fmt.Sprintf(" %s", kind)
		if kind == "application/json" {
			line += " " + members(p.T, r.Body)
		} else {
			line += fmt.Sprintf(" of %d bytes", len(r.Body))
		}
	}
	if r.Challenge != nil {
		letter := string(rune('A' + len(p.challenges)))
		d := r.Request.MethodDetails
		line += fmt.Sprintf(" challenge %s: %d sat for %d %s, credit %d msat, required %d", letter, r.Request.Amount, d.UnitsPerAmount, r.Request.UnitType, d.CreditMsat, d.RequiredCumulative)
		if d.Channel != nil {
			line += fmt.Sprintf(", accepted %d, charged %d msat", d.Channel.AcceptedCumulative, d.Channel.ChargedMsat)
		}
		name, _, _ := strings.Cut(p.lastPath, "?")
		p.challenges[letter] = p.quoted(*r.Challenge, r.Request, name)
	}
	if c := r.Receipt; c != nil {
		line += fmt.Sprintf(" receipt: accepted %d, charged %d msat, required %d, units %d", c.AcceptedCumulative, c.ChargedMsat, c.RequiredCumulative, c.Units)
		if c.BackMsat > 0 {
			line += fmt.Sprintf(", back %d msat", c.BackMsat)
		}
		if u := c.Update; u != nil {
			line += fmt.Sprintf(", update %d/%d", u.CumulativeAmount, u.Epoch)
		}
		if c.ChannelID != p.id || c.Reference == "" || c.ChallengeID == "" {
			p.T.Errorf("a receipt for %s, challenge %q", c.ChannelID, c.ChallengeID)
		}
	}
	p.out.WriteString(line + "\n")
}

// members are the names in a JSON object, sorted.
func members(t testing.TB, raw []byte) string {
	t.Helper()
	obj, err := mpp.ParseObject(raw)
	must(t, err)
	canonical, err := mpp.JCS(obj)
	must(t, err)
	var names []string
	for name := range obj {
		names = append(names, name)
	}
	// JCS has sorted them
	ordered := names[:0:0]
	for _, part := range strings.Split(string(canonical), `"`) {
		for _, n := range names {
			if part == n && !strings.Contains(" "+strings.Join(ordered, " ")+" ", " "+n+" ") {
				ordered = append(ordered, n)
			}
		}
	}
	return "{" + strings.Join(ordered, " ") + "}"
}

func (p *purchase) quoted(c mpp.Challenge, r bitcoin.Request, path string) *paywall.Quoted {
	p.T.Helper()
	q := p.Quote(path)
	q.Challenge, q.Request = c, r
	opaque, err := bitcoin.ParseOpaque(c.Opaque)
	must(p.T, err)
	q.Offer.Nonce, q.Offer.PayeeKey = opaque.Nonce, r.MethodDetails.PayeePubKey
	q.Offer.Tip, q.Offer.Expiry = r.MethodDetails.TipHeight, r.MethodDetails.ExpiryHeight
	return q
}

// step is what happens besides the wire.
func (p *purchase) step(what string) {
	p.T.Helper()
	switch what {
	case "the payer builds and saves T1 and its refund":
		p.id = p.Build(p.challenges["A"], p.kind)
	case "the payer verifies and saves the refund's signature":
		var a bitcoin.PrepareAnswer
		must(p.T, a.UnmarshalJSON(p.last.Body))
		must(p.T, p.Payer.TakeRefundSignature(ctx, p.id, a.RefundSignature))
	case "a block is mined":
		_, err := p.Chain.Mine(1)
		must(p.T, err)
	case "the payer verifies the chunk, saves it and signs for it":
		p.verify(payer.Payment{Verified: 1_000_000})
	case "the payer verifies the last chunk, saves it and signs for it":
		p.verify(payer.Payment{Verified: 1_000_000, Last: true})
	case "the payer signs for the next chunk ahead":
		_, err := p.Payer.Pay(ctx, p.id, payer.Payment{Ahead: 1_000_000}, channel.Limits{Budget: channel.MaxSat, Prepay: channel.MaxSat})
		must(p.T, err)
	case "the payer verifies the chunk, saves it and signs for the next one ahead":
		p.verify(payer.Payment{Verified: 1_000_000, Ahead: 1_000_000})
	case "the payer completes the close and broadcasts it":
		var a bitcoin.CloseAnswer
		must(p.T, a.UnmarshalJSON(p.last.Body))
		var err error
		p.final, err = p.Payer.FinishClose(ctx, p.id, p.closing, a.Tx, [66]byte(a.PayeeNonce), a.PayeePartial)
		must(p.T, err)
	case "the payer checks the settlement":
		var a bitcoin.CloseAnswer
		must(p.T, a.UnmarshalJSON(p.last.Body))
		_, err := p.Payer.TakeSettlement(ctx, p.id, a.Tx)
		must(p.T, err)
	case "the provider pays 1000 sat back":
		_, err := p.Payee.Refund(ctx, p.id, "order", 1_000_000)
		must(p.T, err)
	case "the payer takes what came back":
		var a bitcoin.ResumeAnswer
		must(p.T, a.UnmarshalJSON(p.last.Body))
		must(p.T, p.Payer.ResumedDuplex(ctx, p.id, channel.Resumed{
			Held: channel.Update{Amount: a.CumulativeAmount, Signature: a.Signature, Epoch: a.Epoch}, Back: a.BackMsat,
			Sent: channel.Update{Amount: a.Update.CumulativeAmount, Signature: a.Update.Signature, Epoch: a.Update.Epoch},
		}))
	case "the close is mined: 2000 sat less the fee for the payee, the rest for the payer":
		p.split(2000)
	case "the close is mined: 3000 sat less the fee for the payee, the rest for the payer":
		p.split(3000)
	default:
		p.T.Fatalf("no step %q", what)
	}
}

// verify decodes the slice that came against the file's root, and pays.
func (p *purchase) verify(q payer.Payment) {
	p.T.Helper()
	_, text, _ := strings.Cut(p.lastPath, "slice=")
	from, to, _ := strings.Cut(text, "-")
	a, err := strconv.ParseUint(from, 10, 64)
	must(p.T, err)
	b, err := strconv.ParseUint(to, 10, 64)
	must(p.T, err)
	e, err := p.Catalogue.Lookup("f.bin")
	must(p.T, err)
	m := e.Manifest()
	sink := make(sliceSink, m.Size)
	must(p.T, bao.DecodeSlice(ctx, sink, bytes.NewReader(p.last.Body), bao.Slice{
		Root: m.Root, Size: m.Size, GroupBytes: m.GroupBytes, Offset: a, Length: b - a + 1,
	}, func(uint64) {}))
	if !bytes.Equal(sink[a:b+1], edgetest.Pattern(3_000_000, 1)[a:b+1]) {
		p.T.Fatal("other bytes came")
	}
	_, err = p.Payer.Pay(ctx, p.id, q, channel.Limits{Budget: channel.MaxSat, Prepay: channel.MaxSat})
	must(p.T, err)
}

type sliceSink []byte

func (s sliceSink) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || int(off)+len(b) > len(s) {
		return 0, io.ErrShortWrite
	}
	return copy(s[off:], b), nil
}

// split looks at how the channel's capacity was split on the chain: share is the
// payee's, before the fee.
func (p *purchase) split(share int64) {
	p.T.Helper()
	p.Mine(1)
	r, err := p.Payer.Record(ctx, p.id)
	must(p.T, err)
	op := r.Terms.Outpoint
	spend, err := p.Chain.Spend(context.Background(), edgetest.OutPoint(op))
	must(p.T, err)
	if spend == nil || !spend.Confirmed || r.Close == nil || spend.Txid.String() != r.Close.Txid {
		p.T.Fatalf("the channel is spent by %v, closed by %+v", spend, r.Close)
	}
	info, err := p.Chain.Tx(ctx, spend.Txid)
	must(p.T, err)
	var earned, rest int64
	for _, out := range info.Tx.TxOut {
		switch {
		case bytes.Equal(out.PkScript, p.Payout):
			earned += out.Value
		case bytes.Equal(out.PkScript, r.Terms.RestScript):
			rest += out.Value
		}
	}
	if rest != 50_000-share || earned <= share-1_000 || earned >= share {
		p.T.Fatalf("the payee has %d sat, the payer %d sat", earned, rest)
	}
}
