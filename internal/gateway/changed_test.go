package gateway_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

func (s *seller) root(name string) string {
	s.T.Helper()
	e, err := s.Catalogue.Lookup(name)
	s.Must(err)
	m := e.Manifest()
	return m.Root.String()
}

func (s *seller) paid() uint64 {
	s.T.Helper()
	r, err := s.Payee.Record(context.Background(), s.id)
	s.Must(err)
	return r.Paid
}

const slice0, slice1 = "/f.bin?slice=0-999999", "/f.bin?slice=1000000-1999999"

// A file that changes in the middle of a purchase: nothing of the new one is charged
// on a challenge for the old one, whether this request notices it or the look at the
// files did; the refusal, the fresh challenge in it and the manifest name the new
// root, and the update that came along is kept.
func TestChangedFile(t *testing.T) {
	for name, noticed := range map[string]bool{"by this request": false, "before": true} {
		t.Run(name, func(t *testing.T) {
			s := newSeller(t, edgetest.Config{})
			q, before := s.Quote("/f.bin"), s.root("f.bin")
			if q.Request.MethodDetails.Root != before {
				t.Fatalf("the challenge names root %q", q.Request.MethodDetails.Root)
			}
			buy := func(path string, amount uint64, header http.Header) *edgetest.Reply {
				return s.Do(edgetest.Ask{Method: "GET", Path: path, Header: header, Credential: s.Seal(q.Challenge, s.VoucherFor(s.id, amount), "")})
			}
			if r := buy(slice0, 0, nil); r.Status != 200 {
				t.Fatalf("%d %v", r.Status, r.Problem)
			}
			other := edgetest.Pattern(3_000_000, 9)
			s.Put("f.bin", other)
			if noticed {
				_, err := s.Catalogue.Refresh(context.Background())
				s.Must(err)
			}
			r := buy(slice1, 1000, nil)
			after := s.root("f.bin")
			if after == before || r.Status != 402 || r.Problem == nil || r.Problem.Type != mpp.ProblemVerificationFailed || !strings.Contains(r.Problem.Detail, "content has changed") {
				t.Fatalf("%d %v", r.Status, r.Problem)
			}
			if r.Header.Get("ETag") != `"b3-`+after+`"` || r.Problem.String("root") != after || r.Request.MethodDetails.Root != after {
				t.Errorf("ETag %s, problem %s, challenge %s, want %s", r.Header.Get("ETag"), r.Problem.String("root"), r.Request.MethodDetails.Root, after)
			}
			if s.charged() != 1_000_000 || s.paid() != 1000 {
				t.Errorf("charged %d msat, paid %d sat", s.charged(), s.paid())
			}
			// a client that names what it wants is told before it pays
			r = s.get(slice1, 1001, http.Header{"If-Match": {`"b3-` + before + `"`}})
			if r.Status != 412 || r.Header.Get("ETag") != `"b3-`+after+`"` || s.charged() != 1_000_000 || s.paid() != 1001 {
				t.Errorf("%d %v, charged %d, paid %d", r.Status, r.Header, s.charged(), s.paid())
			}
			// the last payment for the old file needs no content
			if r := s.Do(edgetest.Ask{Method: "HEAD", Path: "/f.bin", Credential: s.Seal(q.Challenge, s.VoucherFor(s.id, 1002), "")}); r.Status != 204 {
				t.Errorf("%d", r.Status)
			}
			// who takes the new challenge buys the new file
			r = s.get("/f.bin", 1002, http.Header{"Range": {"bytes=0-9"}})
			if r.Status != 206 || !bytes.Equal(r.Body, other[:10]) || s.charged() != 2_000_000 {
				t.Errorf("%d, charged %d", r.Status, s.charged())
			}
		})
	}
}

// A file that is gone: its channel can be paid, resumed and closed all the same, at
// the file's address and at the root, and an update that comes with a request for
// it is kept.
func TestGoneFile(t *testing.T) {
	for _, path := range []string{"/f.bin", "/"} {
		s := newSeller(t, edgetest.Config{Files: map[string][]byte{"f.bin": file, "stays": file[:10]}})
		old := s.Quote("/f.bin").Challenge
		if r := s.get(slice0, 0, nil); r.Status != 200 {
			t.Fatalf("%d", r.Status)
		}
		s.Must(os.Remove(filepath.Join(s.Dir, "f.bin")))
		r := s.Do(edgetest.Ask{Method: "GET", Path: slice1, Credential: s.Seal(old, s.VoucherFor(s.id, 400), "")})
		if r.Status != 404 || s.paid() != 400 || s.charged() != 1_000_000 || r.Header.Get("ETag") != "" || !strings.Contains(r.Problem.Detail, "nothing was charged") {
			t.Fatalf("%d %v, paid %d, charged %d", r.Status, r.Header, s.paid(), s.charged())
		}
		if r := s.Do(edgetest.Ask{Method: "POST", Path: "/f.bin"}); r.Status != 404 {
			t.Errorf("unpaid: %d", r.Status)
		}
		c := s.rootChallenge()
		if r := s.Do(edgetest.Ask{Method: "HEAD", Path: path, Credential: s.Seal(c, s.VoucherFor(s.id, 500), "")}); r.Status != 204 || s.paid() != 500 {
			t.Errorf("HEAD %s: %d, paid %d", path, r.Status, s.paid())
		}
		if r := s.Do(edgetest.Ask{Method: "HEAD", Path: path, Credential: s.Seal(old, s.VoucherFor(s.id, 501), "")}); r.Status != 204 || s.paid() != 501 {
			t.Errorf("HEAD %s on the file's challenge: %d, paid %d", path, r.Status, s.paid())
		}
		s.closes(path)
	}
}

// rootChallenge is the challenge that the origin's root gives: it quotes no file.
func (s *seller) rootChallenge() mpp.Challenge {
	s.T.Helper()
	r := s.Do(edgetest.Ask{Method: "POST", Path: "/"})
	if r.Status != 402 || r.Problem == nil || r.Problem.Type != mpp.ProblemPaymentRequired || r.Request.MethodDetails.Root != "" ||
		r.Request.UnitType != bitcoin.UnitRequest || r.Problem.String("command") != "" || r.Problem.String("totalMsat") != "" {
		s.T.Fatalf("%d %v %+v", r.Status, r.Problem, r.Request)
	}
	return *r.Challenge
}

// closes goes from a channel that owes half a chunk to its close, all at one address.
func (s *seller) closes(path string) {
	s.T.Helper()
	ctx := context.Background()
	post := func(p bitcoin.Payload) *edgetest.Reply {
		return s.Do(edgetest.Ask{Method: "POST", Path: path, Credential: s.Seal(s.rootChallenge(), p, "")})
	}
	closing := func(amount uint64) *edgetest.Reply {
		c, err := s.Payer.BeginClose(ctx, s.id)
		s.Must(err)
		v := s.VoucherFor(s.id, amount)
		return post(bitcoin.Close{ChannelID: s.id, CumulativeAmount: amount, Signature: v.Signature, PayerNonce: c.Nonce[:]})
	}
	r := post(bitcoin.Resume{ChannelID: s.id})
	var a bitcoin.ResumeAnswer
	if r.Status == 200 {
		s.Must(a.UnmarshalJSON(r.Body))
	}
	if a.OwedMsat != 499_000 || a.RequiredCumulative != 1000 {
		s.T.Fatalf("resume at %s: %d %+v", path, r.Status, a)
	}
	// nothing is closed while charged exceeds paid: what to sign is said
	r = closing(501)
	if r.Status != 402 || r.Problem.Type != mpp.ProblemInsufficientBalance || r.Problem.String("requiredCumulative") != "1000" || r.Problem.String("owedMsat") != "499000" {
		s.T.Fatalf("a close that owes: %d %v", r.Status, r.Problem)
	}
	if r = closing(1000); r.Status != 200 || r.Receipt == nil || r.Receipt.AcceptedCumulative != 1000 {
		s.T.Fatalf("close at %s: %d %v", path, r.Status, r.Problem)
	}
}

// A chunk that was charged and never arrived is fetched again free, then paid, then
// the channel is closed.
func TestCloseAfterAnUndeliveredChunk(t *testing.T) {
	s := newSeller(t, edgetest.Config{})
	req := s.Request(t.Context(), edgetest.Ask{Method: "GET", Path: slice0, Credential: s.Seal(s.Quote("/f.bin").Challenge, s.VoucherFor(s.id, 0), "")})
	resp, err := s.Server.Client().Do(req)
	s.Must(err)
	s.Must(resp.Body.Close()) // charged, and nothing of it was read
	if s.charged() != 1_000_000 {
		t.Fatalf("charged %d", s.charged())
	}
	if r := s.get(slice0, 0, nil); r.Status != 200 || r.Receipt.Units != 0 || s.charged() != 1_000_000 {
		t.Fatalf("%d %+v", r.Status, r.Receipt)
	}
	if r := s.Do(edgetest.Ask{Method: "POST", Path: "/", Credential: s.Seal(s.rootChallenge(), s.VoucherFor(s.id, 501), "")}); r.Status != 200 {
		t.Fatalf("%d %v", r.Status, r.Problem)
	}
	s.closes("/")
}

// The root takes what comes alone, and nothing else.
func TestRootTakesActionsOnly(t *testing.T) {
	s := newSeller(t, edgetest.Config{Files: map[string][]byte{"f.bin": file, "folder/g.bin": file[:10]}})
	c := s.rootChallenge()
	for _, a := range []edgetest.Ask{
		{Method: "POST", Path: "/", Body: "x", Credential: s.Seal(c, s.VoucherFor(s.id, 1), "")},
		{Method: "HEAD", Path: "/", Credential: s.Seal(c, bitcoin.Resume{ChannelID: s.id}, "")},
	} {
		if r := s.Do(a); r.Status != 400 || s.paid() != 0 {
			t.Errorf("%s %s: %d", a.Method, a.Path, r.Status)
		}
	}
	// a catalogue is free, with a credential and without
	for _, cred := range []string{"", s.Seal(c, s.VoucherFor(s.id, 0), "")} {
		if r := s.Do(edgetest.Ask{Method: "GET", Path: "/", Credential: cred}); r.Status != 200 || r.Receipt != nil {
			t.Errorf("%d", r.Status)
		}
	}
	// the nominal price at the root buys no file
	r := s.Do(edgetest.Ask{Method: "GET", Path: slice0, Credential: s.Seal(c, s.VoucherFor(s.id, 0), "")})
	if r.Status != 402 || r.Problem.Type != mpp.ProblemVerificationFailed || s.charged() != 0 {
		t.Errorf("%d %v, charged %d", r.Status, r.Problem, s.charged())
	}
	if r := s.Do(edgetest.Ask{Method: "POST", Path: "/folder/"}); r.Status != 402 {
		t.Errorf("%d", r.Status)
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH"} {
		if r := s.Do(edgetest.Ask{Method: method, Path: "/"}); r.Status != 405 || !strings.Contains(r.Header.Get("Allow"), "POST") {
			t.Errorf("%s: %d", method, r.Status)
		}
	}
}

// What a file's last chunk costs is in its challenge, and a change of it alone is a
// change of the price.
func TestPriceOfTheLastChunk(t *testing.T) {
	s := newSeller(t, edgetest.Config{Price: "3000001msat/file"})
	q := s.Quote("/f.bin")
	if q.Request.Amount != 1000 || q.Request.MethodDetails.LastUnitMsat != 1_000_001 {
		t.Fatalf("%+v", q.Request)
	}
	s.Reprice("3000002msat/file")
	r := s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin?slice=2999999-2999999", Credential: s.Seal(q.Challenge, s.VoucherFor(s.id, 0), "")})
	if r.Status != 402 || r.Problem.Type != mpp.ProblemVerificationFailed || s.charged() != 0 || r.Request.MethodDetails.LastUnitMsat != 1_000_002 {
		t.Errorf("%d %v, charged %d", r.Status, r.Problem, s.charged())
	}
	s.Reprice("3000sat/file")
	if d := s.Quote("/f.bin").Request.MethodDetails; d.LastUnitMsat != 0 {
		t.Errorf("all cost the same: %+v", d)
	}
	if r := s.get("/f.bin?slice=2999999-2999999", 0, nil); r.Status != 200 || s.charged() != 1_000_000 {
		t.Errorf("%d", r.Status)
	}
}
