package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// tamper lets something that was sent before, and was answered well, arrive with
// one field changed. It is refused, with a reason that has a type, or it is a
// repeat without effect: nothing that counts changes on the payee's disk.
func (w *world) tamper() {
	var good []packet
	for _, p := range w.history {
		if p.good {
			good = append(good, p)
		}
	}
	if len(good) == 0 || w.seller.dead || w.seller.away() {
		return
	}
	p := good[w.rng.IntN(len(good))]
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p.raw)))
	w.must(err)
	c, err := mpp.ParseCredential(req.Header.Values(mpp.HeaderCredential))
	if err != nil {
		return // an unpaid request
	}
	what, closes := w.tamperWith(p.from, req, &c)
	if what == "" {
		return
	}
	var out bytes.Buffer
	w.must(req.Write(&out))
	before := w.audit.standing()
	_, a := w.seller.handle(bufio.NewReader(w.dribble(out.Bytes())))
	w.fault("tampered-" + strings.SplitN(what, " ", 2)[0])
	if a == nil {
		return // it hung up, or was killed
	}
	w.tell("a request of %s arrives with another %s: HTTP status %d", p.from.name, what, a.status)
	kind := a.header.Get("Content-Type")
	switch {
	case a.status >= 400 && a.status < 500 && kind != mpp.ContentTypeProblem && req.Method != http.MethodHead:
		w.violate("a request with another %s is refused with status %d and %q", what, a.status, kind)
	case !w.seller.restored && !closes && w.audit.standing() != before:
		w.violate("a request with another %s (status %d) changed what the payee has saved: %s, before %s", what, a.status, w.audit.standing(), before)
	}
}

// tamperWith changes one field of a credential. A payer that cheats has the key and
// makes the MAC right again.
func (w *world) tamperWith(b *buyer, req *http.Request, c *mpp.Credential) (what string, closes bool) {
	var payload map[string]any
	if err := json.Unmarshal(c.Payload, &payload); err != nil {
		w.violate("a good payload cannot be read: %v", err)
		return "", false
	}
	closes = payload["action"] == bitcoin.ActionClose
	switch w.rng.IntN(6) {
	case 0:
		what = "challenge." + w.otherChallenge(&c.Challenge)
	case 1:
		text := []byte(c.Encode())
		text[w.rng.IntN(len(text))] ^= byte(1 + w.rng.IntN(127))
		for i, b := range text {
			if b < ' ' || b > '~' {
				text[i] = 'A'
			}
		}
		req.Header.Set(mpp.HeaderCredential, string(text))
		return "byte", closes
	case 2:
		req.Header.Set(mpp.HeaderIdempotencyKey, "0123456789abcdef0123456789abcdef")
		return "key", closes
	default:
		what = w.otherField(payload)
	}
	if b.dishonest() && !b.dead && w.rng.IntN(2) == 0 {
		if key, err := b.payer.MACKey(w.ctx, text(payload["channelId"])); err == nil {
			payload["mac"] = bitcoin.MAC(key, c.Challenge.ID, text(payload["action"]), text(payload["cumulativeAmount"]), req.Header.Get(mpp.HeaderIdempotencyKey))
			what += " with a right MAC"
			w.fault("forged-mac")
		}
	}
	raw, err := json.Marshal(payload)
	w.must(err)
	c.Payload = raw
	req.Header.Set(mpp.HeaderCredential, c.Encode())
	return what, closes
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// otherChallenge changes a parameter of an echoed challenge.
func (w *world) otherChallenge(c *mpp.Challenge) string {
	fields := []struct {
		name string
		at   *string
	}{{"id", &c.ID}, {"realm", &c.Realm}, {"method", &c.Method}, {"intent", &c.Intent}, {"request", &c.Request}, {"expires", &c.Expires}, {"opaque", &c.Opaque}}
	f := fields[w.rng.IntN(len(fields))]
	*f.at = w.otherText(*f.at)
	return f.name
}

// otherField changes, removes or retypes one member of an object and names it.
func (w *world) otherField(o map[string]any) string {
	names := slices.Sorted(maps.Keys(o))
	if len(names) == 0 {
		return "nothing"
	}
	name := names[w.rng.IntN(len(names))]
	switch v := o[name].(type) {
	case string:
		if w.rng.IntN(12) == 0 {
			delete(o, name)
		} else if w.rng.IntN(12) == 0 {
			o[name] = len(v)
		} else {
			o[name] = w.otherText(v)
		}
	case map[string]any:
		return name + "." + w.otherField(v)
	default:
		o[name] = w.rng.Uint32()
	}
	return name
}

// otherText is a text of the same form with another meaning.
func (w *world) otherText(s string) string {
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		others := []uint64{n + 1, n - min(n, 1), 0, n * 2, channel.MaxSat, channel.MaxSat + 1, 1<<63 - 1}
		if n = others[w.rng.IntN(len(others))]; strconv.FormatUint(n, 10) != s {
			return strconv.FormatUint(n, 10)
		}
		return s + "0"
	}
	if s == "" {
		return "x"
	}
	b := []byte(s)
	at := w.rng.IntN(len(b))
	const digits = "0123456789abcdef"
	for c := digits[w.rng.IntN(16)]; ; c = digits[w.rng.IntN(16)] {
		if c != b[at] {
			b[at] = c
			return string(b)
		}
	}
}

// standing is all that counts on the payee's disk.
func (a *audit) standing() string {
	var out []byte
	for _, id := range slices.Sorted(maps.Keys(a.payee)) {
		r := a.payee[id]
		out = append(out, id[:8]...)
		out = append(out, ' ')
		out = strconv.AppendUint(out, r.Paid, 10)
		out = append(out, '/')
		out = strconv.AppendUint(out, r.Charged, 10)
		if r.Phase != channel.Funding && r.Phase != channel.Open {
			out = append(out, r.Phase...)
		}
		out = append(out, ';')
	}
	return string(out)
}

// lie is what a dishonest payee answers instead.
func (w *world) lie(raw []byte) []byte {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: http.MethodGet})
	if err != nil {
		return raw
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return raw // the answer to a HEAD says how long a body would be
	}
	w.fault("lie")
	var o map[string]any
	switch how := w.rng.IntN(6); {
	case how == 0:
		resp.StatusCode = []int{200, 204, 302, 402, 404, 410, 500, 503}[w.rng.IntN(8)]
	case how < 3 && resp.Header.Get(mpp.HeaderReceipt) != "":
		if b, err := mpp.DecodeBase64(resp.Header.Get(mpp.HeaderReceipt)); err == nil && json.Unmarshal(b, &o) == nil {
			w.otherField(o)
			b, err = json.Marshal(o)
			w.must(err)
			resp.Header.Set(mpp.HeaderReceipt, mpp.EncodeBase64(b))
		}
	case how < 4 && resp.Header.Get(mpp.HeaderChallenge) != "":
		w.lieOfTerms(resp)
	case json.Unmarshal(body, &o) == nil:
		w.otherField(o)
		body, err = json.Marshal(o)
		w.must(err)
	case len(body) > 0:
		body[w.rng.IntN(len(body))] ^= byte(1 + w.rng.IntN(255))
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	var out bytes.Buffer
	w.must(resp.Write(&out))
	return out.Bytes()
}

// lieOfTerms changes the terms in a challenge, which the payee binds as it likes.
func (w *world) lieOfTerms(resp *http.Response) {
	list, err := mpp.ParseChallenges(resp.Header.Values(mpp.HeaderChallenge))
	if err != nil || len(list) == 0 {
		return
	}
	ch := list[0]
	var o map[string]any
	if b, err := mpp.DecodeBase64(ch.Request); err != nil || json.Unmarshal(b, &o) != nil {
		return
	}
	w.otherField(o)
	b, err := json.Marshal(o)
	w.must(err)
	ch.Request = mpp.EncodeBase64(b)
	secret := [32]byte{1, byte(w.seller.epoch)}
	ch = mpp.NewChallenge(secret[:], ch)
	resp.Header.Set(mpp.HeaderChallenge, ch.String())
}

// attack is the worst that a dishonest side can do on the chain.
func (w *world) attack() {
	if w.story.payee == "lies" && len(w.audit.old) > 0 {
		tx, err := channel.DecodeTx(w.audit.old[w.rng.IntN(len(w.audit.old))])
		w.must(err)
		err = w.chain.Broadcast(w.ctx, tx)
		w.fault("old-settlement")
		w.tell("the payee sends an old settlement: %v", err)
	}
	b := w.buyers[0]
	if w.story.payer != "cheats" || b.dead || len(w.audit.payer) == 0 {
		return
	}
	ids := slices.Sorted(maps.Keys(w.audit.payer))
	id := ids[w.rng.IntN(len(ids))]
	r := w.audit.payer[id]
	if w.audit.owner[id] != b {
		return
	}
	if w.rng.IntN(4) == 0 && r.Phase == channel.Funding {
		w.doubleSpend(id, r)
		return
	}
	if w.rng.IntN(2) == 0 {
		b.greedy(id, r)
		return
	}
	tx, err := b.payer.EarlyRefund(w.ctx, id)
	if err != nil {
		return
	}
	err = w.chain.Broadcast(w.ctx, tx)
	w.tell("%s sends the refund of %.12s at height %d, the expiry is %d: %v", b.name, id, w.chain.Height(), r.Terms.Expiry, err)
	if err == nil && w.chain.Height() < r.Terms.Expiry {
		if _, height, ok := w.chain.Spender(wire.OutPoint(r.Terms.Outpoint)); !ok || height == 0 {
			w.violate("the refund of %.12s is taken at height %d, its expiry is %d", id, w.chain.Height(), r.Terms.Expiry)
		}
	}
	w.fault("refund-raced")
}

// doubleSpend spends T1's input elsewhere.
func (w *world) doubleSpend(id string, r channel.PayerRecord) {
	t1, err := channel.DecodeTx(r.FundingTx)
	w.must(err)
	tx := t1.Copy()
	tx.TxOut[0].PkScript = anybodyScript
	tx.TxOut[0].Value -= tx.TxOut[0].Value / 4
	err = w.chain.Broadcast(w.ctx, tx)
	w.fault("double-spend")
	w.tell("a cheat spends the coin of %.12s elsewhere: %v", id, err)
}

// greedy asks for several chunks with what was signed already, whatever became of the
// channel, and pays for none: the audit sees what is charged and delivered for it.
func (b *buyer) greedy(id string, r channel.PayerRecord) {
	w := b.w
	if w.rng.IntN(3) == 0 { // it has the payee sign a close, and keeps that to itself
		b.deaf = true
		_, err := b.client.Close(w.ctx, id, "", b.expect())
		b.deaf = false
		w.fault("withheld-close")
		w.tell("%s asks for a close of %.12s and keeps it: %v", b.name, id, err)
	}
	for range 1 + w.rng.IntN(4) {
		f := w.seller.files[w.rng.IntN(len(w.seller.files))]
		i := w.rng.Uint64N(f.chunks)
		resp, _, err := b.client.Fetch(w.ctx, paywall.Paid{Channel: id, URL: b.url(f, i), Update: r.Newest(), Expect: b.expect()})
		if err == nil {
			err = resp.Body.Close()
		}
		w.tell("%s asks for chunk %d of %s on %.12s and pays nothing: %v", b.name, i, f.name, id, err)
	}
	w.fault("greedy")
}
