package main

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/mppxtest"
)

// TestMppxValidatesMiddleware: a Go service that describes itself passes too, with every
// kind of operation.
func TestMppxValidatesMiddleware(t *testing.T) {
	kit := mppxtest.Install(t)
	s := newShop(t, newPost(t), nil)
	out, err := kit.CLI(t, "validate", s.url, "--output-json")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got struct {
		Endpoints []struct{ Method, Path string }
		Summary   struct{ Passed, Failed, Warnings, Suggested, Skipped int }
	}
	must(t, json.Unmarshal([]byte(out), &got))
	if len(got.Endpoints) != 3 || got.Summary.Failed+got.Summary.Warnings+got.Summary.Suggested+got.Summary.Skipped != 0 || got.Summary.Passed < 20 {
		t.Errorf("%s", out)
	}
	if out, err := kit.CLI(t, "discover", "validate", s.url+"/openapi.json"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if doc := validOpenAPI(t, s.url); doc.Paths.Len() != 3 {
		t.Errorf("%d paths", doc.Paths.Len())
	}
	if resp, _ := fetch(t, s.url+"/llms.txt"); resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}

// mppxAgain is a client in trouble: a key used twice, a limit, a channel that is closed
// under it, and a signer that does not know the URL.
const mppxAgain = `
import { Mppx } from 'mppx/client'
import { spillway } from './client.js'

const [url] = process.argv.slice(2)
const pay = spillway({ max: 50 })
const mppx = Mppx.create({ methods: [pay.method], fetch: pay.fetch, polyfill: false })
const out = {}
const get = async (client, headers) => { const r = await client.fetch(url + '/answer', { headers }); return [r.status, (await r.json()).answer] }
out.first = await get(mppx, { 'Idempotency-Key': 'k' })
out.again = await get(mppx, { 'Idempotency-Key': 'k' })
out.other = await get(mppx, { 'Idempotency-Key': 'l' })

const poor = spillway({ max: 1 })
out.poor = await get(Mppx.create({ methods: [poor.method], fetch: poor.fetch, polyfill: false })).catch((e) => [e.name, e.code, e.exit, e.money])

const closed = await pay.close(url)
out.closed = closed.length
out.after = await get(mppx) // the next channel

// another program closes the channel: the next one is opened
await spillway({ max: 50 }).close(url)
out.last = await get(mppx)

const bare = spillway({ max: 50 })
out.bare = await get(Mppx.create({ methods: [bare.method], polyfill: false }))
console.log(JSON.stringify(out))
`

// TestMppxInTrouble: repeats, limits, lost channels and a missing URL, through mppx.
func TestMppxInTrouble(t *testing.T) {
	kit := mppxtest.Install(t)
	p := newPost(t)
	s := newShop(t, p, nil)
	out := kit.Script(t, kit.Work(t), mppxAgain, p.vars(), s.url)
	var got map[string]json.RawMessage
	must(t, json.Unmarshal([]byte(out), &got))
	for name, want := range map[string]string{
		"first": "[200,1]", "again": "[200,1]", "other": "[200,2]", "closed": "1", "after": "[200,3]", "last": "[200,4]", "bare": "[200,5]",
	} {
		if string(got[name]) != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
	var poor []any
	must(t, json.Unmarshal(got["poor"], &poor))
	if len(poor) != 4 || poor[0] != "SpillwayError" || poor[1] != "budget" || poor[2] != float64(exitConsent) {
		t.Errorf("%v", poor)
	}
	var charged, paid uint64
	all, err := s.payee.Records(t.Context())
	must(t, err)
	for _, r := range all {
		charged, paid = charged+r.Charged, paid+r.Paid
	}
	if charged != 5*1500 || paid > channel.CeilSat(charged)+uint64(len(all))*1000 {
		t.Errorf("charged are %d msat, paid %d sat, in %d channels: %s", charged, paid, len(all), out)
	}
}
