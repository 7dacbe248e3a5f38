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
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.url+"/v1/ladder", bytes.NewReader(raw))
	if err != nil {
		return taken, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return taken, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil {
		return taken, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if resp.StatusCode != http.StatusOK {
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
			return taken, fmt.Errorf("%w: status %d", ErrUnreachable, resp.StatusCode)
		}
		if p.Status = resp.StatusCode; p.Status == http.StatusServiceUnavailable {
			return taken, fmt.Errorf("%w: %.300q", ErrUnreachable, p.Detail)
		}
		return taken, &RefusedError{p}
	}
	if err := json.Unmarshal(body, &taken); err != nil || taken.Channel != h.Channel.String() {
		return taken, fmt.Errorf("%w: it answers nothing that a tower would", ErrUnreachable)
	}
	return taken, nil
}
