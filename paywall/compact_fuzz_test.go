package paywall

import (
	"bytes"
	"net/http"
	"reflect"
	"testing"

	"github.com/spillway/spillway/channel"
)

// sampleFrames is one frame of each kind.
func sampleFrames() [][]byte {
	u := channel.Update{Amount: 123_456, Signature: bytes.Repeat([]byte{7}, 65)}
	at := tally{1, 2000, 3}
	return [][]byte{
		bindFrame{3, "Payment abc"}.append(nil),
		updateFrame{900, u}.append(nil),
		orderFrame{1, 77, u, "key", true, "slice=0-9"}.append(nil),
		helloFrame{1, [16]byte{1, 2}, 1024, 16, 66_560}.append(nil),
		ackFrame{5, at}.append(nil, frameBound),
		ackFrame{6, at}.append(nil, frameAck),
		replyFrame{9, 200, &slip{at, 4, 5}, http.Header{"Etag": {`"b3"`}, "X": {"", "y"}}}.append(nil),
		append(dataHead(nil, 8, 3), "abc"...),
		endFrame{7, true, &slip{at, 1, 2}, http.Header{"T": {"v"}}}.append(nil),
		problemFrame{2, []byte(`{"type":"about:blank"}`)}.append(nil),
	}
}

// again writes what a frame was read as; nil: it is none, or of a kind that is not known.
func again(t *testing.T, f frame) []byte {
	t.Helper()
	switch f.kind {
	case frameBind:
		if v, err := parseBind(f.body); err == nil {
			return v.append(nil)
		}
	case frameUpdate:
		if v, err := parseUpdate(f.body); err == nil {
			if v.update.Amount > channel.MaxSat || len(v.update.Signature) < minSignature || len(v.update.Signature) > maxSignature || v.number >= maxCompactOnes {
				t.Fatalf("%+v", v)
			}
			return v.append(nil)
		}
	case frameOrder:
		if v, err := parseOrder(f.body); err == nil {
			if v.update.Amount > channel.MaxSat || len(v.query) > maxQuery || v.number >= maxCompactOnes {
				t.Fatalf("%+v", v)
			}
			return v.append(nil)
		}
	case frameHello:
		_, _ = parseHello(f.body) // what follows is of a later version
	case frameBound, frameAck:
		if v, err := parseAck(f.body); err == nil {
			return v.append(nil, f.kind)
		}
	case frameReply:
		if v, err := parseReply(f.body); err == nil {
			w, err := parseReply(mustBody(t, v.append(nil)))
			if err != nil || !reflect.DeepEqual(v, w) {
				t.Fatalf("%+v is read again as %+v, %v", v, w, err)
			}
		}
	case frameData:
		if order, b, err := parseData(f.body); err == nil {
			return append(dataHead(nil, order, len(b)), b...)
		}
	case frameEnd:
		if v, err := parseEnd(f.body); err == nil {
			w, err := parseEnd(mustBody(t, v.append(nil)))
			if err != nil || !reflect.DeepEqual(v, w) {
				t.Fatalf("%+v is read again as %+v, %v", v, w, err)
			}
		}
	case frameProblem:
		if v, err := parseProblemFrame(f.body); err == nil {
			return v.append(nil)
		}
	}
	return nil
}

func mustBody(t *testing.T, raw []byte) []byte {
	t.Helper()
	f, rest, err := nextFrame(raw)
	if err != nil || len(rest) > 0 {
		t.Fatalf("what was written is no frame: %v", err)
	}
	return f.body
}

// Whatever comes is read as frames or refused, and has one form: what is read is written
// the same again.
func FuzzCompactFrames(f *testing.F) {
	var all []byte
	for _, raw := range sampleFrames() {
		f.Add(raw)
		all = append(all, raw...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, message []byte) {
		for len(message) > 0 {
			fr, rest, err := nextFrame(message)
			if err != nil {
				return
			}
			if len(rest) >= len(message) {
				t.Fatal("it does not end")
			}
			if made := again(t, fr); made != nil && !bytes.Equal(made, message[:len(message)-len(rest)]) {
				t.Fatalf("% x is written again as % x", message[:len(message)-len(rest)], made)
			}
			message = rest
		}
	})
}

// Every sample is read back as it was.
func TestCompactFrames(t *testing.T) {
	for i, raw := range sampleFrames() {
		f, rest, err := nextFrame(raw)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%d: %v", i, err)
		}
		if made := again(t, f); made != nil && !bytes.Equal(made, raw) {
			t.Errorf("%d: % x is written again as % x", i, raw, made)
		}
		for n := range len(raw) { // cut anywhere it is none
			if _, _, err := nextFrame(raw[:n]); err == nil {
				t.Errorf("%d: %d bytes of %d are a frame", i, n, len(raw))
			}
		}
	}
}

// What comes of a metered WebSocket's messages is bounded, and has one meaning.
func FuzzSocketFrame(f *testing.F) {
	for _, text := range []string{
		`{"mpp":"authorization","authorization":"Payment e30","idempotencyKey":"k"}`, `{"mpp":"message","data":"hi"}`, `{"mpp":"message","data":{}}`,
		`{"mpp":"payment-close-request"}`, `{"mpp":"payment-error","status":402,"message":"no","problem":{}}`, `{"mpp":7}`, `"x"`, `{}`, ``, `{"mpp":"message"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		fr, ok := readSocketFrame(text)
		if !ok {
			return
		}
		raw, err := fr.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, ok := readSocketFrame(raw)
		if !ok || got.Name != fr.Name || got.Authorization != fr.Authorization || got.Status != fr.Status {
			t.Fatalf("%s is read again as %+v", raw, got)
		}
		a, aok := fr.text()
		b, bok := got.text()
		if fr.Name == socketMessage && (a != b || aok != bok) {
			t.Fatalf("%q %q", a, b)
		}
	})
}
