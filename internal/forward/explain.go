package forward

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/wallet"
)

// meaning is what an error means to whoever asked: a status, and words for a person.
func meaning(err error) (status int, why string) {
	text := clip(err.Error())
	for _, k := range []struct {
		is     []error
		status int
		says   string
	}{
		{[]error{paywall.ErrNotAllowed, channel.ErrBudget}, http.StatusPaymentRequired, "This proxy did not pay: what it may spend does not allow it (%s). Start it with a larger --budget or --allow HOST=BUDGET."},
		{[]error{channel.ErrPrepay, channel.ErrInsufficient}, http.StatusPaymentRequired, "This proxy did not pay: the provider wants to be paid ahead (%s). --max-prepay allows it."},
		{[]error{paywall.ErrDeposit, download.ErrDeposit}, http.StatusPaymentRequired, "This proxy did not pay: the provider wants more locked in a channel than is allowed (%s)."},
		{[]error{paywall.ErrAuthorization}, http.StatusPaymentRequired, "This proxy did not pay: %s."},
		{[]error{wallet.ErrInsufficient}, http.StatusServiceUnavailable, "The wallet has too few coins: %s. spillway wallet address takes some."},
		{[]error{errBusy}, http.StatusServiceUnavailable, "Not now: %s."},
		{[]error{paywall.ErrClosed}, http.StatusServiceUnavailable, "This proxy stops: %s."},
		{[]error{context.DeadlineExceeded}, http.StatusGatewayTimeout, "The provider takes too long: %s."},
	} {
		for _, is := range k.is {
			if errors.Is(err, is) {
				return k.status, fmt.Sprintf(k.says, text)
			}
		}
	}
	var t net.Error
	if errors.As(err, &t) && t.Timeout() {
		return http.StatusGatewayTimeout, "The provider takes too long: " + text + "."
	}
	return http.StatusBadGateway, "There is no answer that could be passed on: " + text + ". What did not come verified is not paid."
}

// maxText bounds what an explanation repeats of others' words, in bytes.
const maxText = 500

func clip(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// lacksCoins reports whether the wallet had too few coins.
func lacksCoins(err error) bool { return errors.Is(err, wallet.ErrInsufficient) }

// body is an explanation, as a problem. RFC 9457.
func body(status int, why string) []byte {
	kind := "about:blank"
	if status == http.StatusPaymentRequired {
		kind = mpp.ProblemPaymentRequired
	}
	raw, err := json.Marshal(map[string]any{"type": kind, "title": http.StatusText(status), "status": status, "detail": why})
	if err != nil {
		return nil // of texts and a number: it cannot fail
	}
	return append(raw, '\n')
}

// mark says in the answer's header that it is this proxy's word. RFC 9209.
func mark(h http.Header, why string) {
	plain := strings.Map(func(c rune) rune {
		if c > '~' || c == '"' || c == '\\' {
			return '\''
		}
		return c
	}, why)
	h.Set("Proxy-Status", `spillway; error=http_request_denied; details="`+plain+`"`)
	h.Set("Cache-Control", "no-store")
}

// explain answers with an explanation.
func explain(w http.ResponseWriter, r *http.Request, status int, why string) {
	raw := body(status, why)
	h := w.Header()
	mark(h, why)
	h.Set("Content-Type", mpp.ContentTypeProblem)
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(raw); err != nil {
		return // the client is gone
	}
}

// decorate puts an explanation into a 402 that is passed on: its challenges stay, so
// that a client could pay by itself.
func decorate(resp *http.Response, why string) *http.Response {
	raw := body(resp.StatusCode, why)
	mark(resp.Header, why)
	if err := resp.Body.Close(); err != nil {
		resp.Header.Set("Connection", "close")
	}
	resp.Header.Set("Content-Type", mpp.ContentTypeProblem)
	if resp.Request == nil || resp.Request.Method != http.MethodHead {
		resp.Header.Set("Content-Length", strconv.Itoa(len(raw)))
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("ETag")
		resp.ContentLength = int64(len(raw))
		resp.Body = io.NopCloser(bytes.NewReader(raw))
	}
	return resp
}
