package paywall

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// Names of the messages of a metered WebSocket. docs/protocol.md, section 22.
const (
	socketAuthorization = "authorization"
	socketMessage       = "message"
	socketCloseRequest  = "payment-close-request"
	socketCloseReady    = "payment-close-ready"
	socketError         = "payment-error"
)

// maxSocketMessage bounds a message of a metered WebSocket, in bytes, either way.
const maxSocketMessage = 1 << 20

// socketFrame is a text message of a metered WebSocket that is the payment's, or carries
// one of the service's.
type socketFrame struct {
	Name           string          `json:"mpp"`
	Authorization  string          `json:"authorization,omitempty"`  // a credential, as in the field
	IdempotencyKey string          `json:"idempotencyKey,omitempty"` // that it is sealed under
	Data           json.RawMessage `json:"data,omitempty"`
	Status         int             `json:"status,omitempty"`
	Message        string          `json:"message,omitempty"`
	Problem        json.RawMessage `json:"problem,omitempty"`   // RFC 9457
	Challenge      string          `json:"challenge,omitempty"` // as in WWW-Authenticate
	Code           int             `json:"code,omitempty"`      // with which the service ended it
	Reason         string          `json:"reason,omitempty"`
}

// readSocketFrame reads a text message; false: it is the service's own, as it stands.
func readSocketFrame(text []byte) (f socketFrame, ok bool) {
	if json.Unmarshal(text, &f) != nil {
		return f, false
	}
	switch f.Name {
	case socketAuthorization, socketMessage, socketCloseRequest, socketCloseReady, socketError, bitcoin.EventNeedVoucher, bitcoin.EventReceipt:
		return f, true
	}
	return f, false
}

// text is a message's data; false: it is no string.
func (f socketFrame) text() (s string, ok bool) {
	return s, json.Unmarshal(f.Data, &s) == nil
}

// encode writes a frame.
func (f socketFrame) encode() ([]byte, error) { return json.Marshal(f) }

// dataFrame is a frame with data.
func socketData(name string, data any) (f socketFrame, err error) {
	f.Name = name
	f.Data, err = json.Marshal(data)
	return f, err
}

// wantsSocket reports whether a request asks for a WebSocket. RFC 6455, section 4.1.
func wantsSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// answerRecorder takes the answer to a request that was made up from a frame.
type answerRecorder struct {
	header http.Header
	status int
	body   []byte
}

// Header implements http.ResponseWriter.
func (a *answerRecorder) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answerRecorder) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answerRecorder) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if len(a.body)+len(p) <= mpp.MaxProblem {
		a.body = append(a.body, p...)
	}
	return len(p), nil
}

// frame is the answer as it travels over the socket.
func (a *answerRecorder) frame() (socketFrame, error) {
	if receipt := a.header.Get(mpp.HeaderReceipt); receipt != "" && a.status < 300 {
		raw, err := mpp.DecodeBase64(receipt)
		return socketFrame{Name: bitcoin.EventReceipt, Data: raw}, err
	}
	f := socketFrame{Name: socketError, Status: a.status, Message: http.StatusText(a.status), Challenge: a.header.Get(mpp.HeaderChallenge)}
	if p, err := mpp.ParseProblem(a.body); err == nil {
		f.Problem = a.body
		if f.Message = p.Detail; f.Message == "" {
			f.Message = p.Title
		}
	}
	return f, nil
}
