package towerhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spillway/spillway/watch/tower"
)

// Errors of a client.
var (
	// ErrURL: this is no tower's address.
	ErrURL = errors.New("a tower's address is https://HOST[:PORT], or http:// on this machine")
	// ErrUnreachable: the tower did not answer, or not as a tower does.
	ErrUnreachable = errors.New("the tower cannot be reached")
	// ErrRefused: the tower refused a ladder; the error is then a *RefusedError.
	ErrRefused = errors.New("the tower refused the ladder")
)

// RefusedError is a tower's refusal. errors.Is(err, ErrRefused) holds.
type RefusedError struct{ Problem }

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%v: %.300q (%d %.40q)", ErrRefused, e.Detail, e.Status, e.Code)
}

// Is makes every RefusedError an ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// maxAnswer is how many bytes of a tower's answer are read.
const maxAnswer = 32 << 20

// Client hands ladders over to one tower.
type Client struct {
	url   string
	token string
	http  *http.Client
}

// NewClient checks the address: a token crosses no network in the clear. It follows
// no redirect. Errors: ErrURL.
func NewClient(address, token string) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: %.200q", ErrURL, address)
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return nil, fmt.Errorf("%w: %.200q", ErrURL, address)
	}
	return &Client{url: strings.TrimSuffix(u.String(), "/"), token: strings.TrimSpace(token), http: &http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// HandOver hands a ladder over; when it returns nil the tower holds this ladder, or
// one of no lower amount. Errors: ErrUnreachable, *RefusedError.
func (c *Client) HandOver(ctx context.Context, h tower.Handoff) (taken tower.Taken, err error) {
	raw, err := json.Marshal(h)
	if err != nil {
		return taken, err
	}
	if err := c.ask(ctx, http.MethodPut, "/v1/ladder", raw, &taken); err != nil {
		return taken, err
	}
	if taken.Channel != h.Channel.String() {
		return taken, fmt.Errorf("%w: it answers nothing that a tower would", ErrUnreachable)
	}
	return taken, nil
}

// Held is what the tower holds of this provider. Errors: ErrUnreachable, *RefusedError.
func (c *Client) Held(ctx context.Context) ([]Held, error) {
	var list heldList
	err := c.ask(ctx, http.MethodGet, "/v1/ladders", nil, &list)
	return list.Channels, err
}

// ask sends a request and reads the answer.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, raw)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w: it answers nothing that a tower would: %w", ErrUnreachable, err)
	}
	return nil
}

// refusal reads a tower's refusal; what is none, or says that it cannot, counts as
// unreachable.
func refusal(status int, raw []byte) error {
	var p Problem
	if err := json.Unmarshal(raw, &p); err != nil || p.Code == "" {
		return fmt.Errorf("%w: status %d", ErrUnreachable, status)
	}
	if p.Status = status; status == http.StatusServiceUnavailable {
		return fmt.Errorf("%w: %.300q", ErrUnreachable, p.Detail)
	}
	return &RefusedError{p}
}
