package paywall

import (
	"context"
	"errors"
	"net/http"
)

// Get fetches something that is free, such as a catalogue or a manifest, of at most
// limit bytes, without a payer. h is the HTTP client; nil: DefaultHTTP. It follows
// redirects within the origin only and returns the URL that answered.
// Errors: ErrUnreachable, ErrRedirected, ErrMisbehaved, *RefusedError, *BusyError.
func Get(ctx context.Context, h *http.Client, target string, header http.Header, limit int64) (body []byte, at string, err error) {
	return newTransport(h, 0).get(ctx, target, header, limit)
}

func (t *transport) get(ctx context.Context, target string, header http.Header, limit int64) (body []byte, at string, err error) {
	resp, at, err := t.open(ctx, target, header)
	if err != nil {
		return nil, at, err
	}
	defer func() { err = errors.Join(err, closeAnswer(resp.Body)) }()
	body, err = readAnswer(resp.Body, limit)
	return body, at, err
}

// open sends an unpaid request; the answer is a success whose body is open.
func (t *transport) open(ctx context.Context, target string, header http.Header) (*http.Response, string, error) {
	resp, at, err := t.follow(ctx, http.MethodGet, target, header)
	if err != nil {
		return nil, at, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, at, errors.Join(refusal(resp), closeAnswer(resp.Body))
	}
	return resp, at, nil
}

// Free asks for content that costs nothing, without a credential: a free file, or
// the free chunks at the beginning of one. The answer's body is open and has to be
// closed; what is in it is for the caller to verify. docs/protocol.md, section 14.
// Errors: as Get; a *RefusedError with status 402 where it is not free.
func (c *Client) Free(ctx context.Context, target string, header http.Header) (*http.Response, error) {
	resp, _, err := c.net.open(ctx, target, header)
	return resp, err
}
