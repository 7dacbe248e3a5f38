// Package webhook tells others what happens to a provider's channels, by HTTP: opened,
// paid, closing, closed, refunded, alarm. An event is saved in the very commit of the
// change that it tells of, and delivered until it is taken: at least once, with an id
// that stays the same.
//
// It follows no redirect, and it never holds up what it tells of.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// Types of events.
const (
	Opened   = "opened"   // a channel's funding is deep enough, or enough is paid before it is
	Paid     = "paid"     // an update raised what is paid
	Closing  = "closing"  // a settlement or a close is on its way
	Closed   = "closed"   // it is buried
	Refunded = "refunded" // the payer's refund is buried
	Alarm    = "alarm"    // somebody has to look, or no more
	Test     = "test"     // the operator tries a webhook
)

// Types are all that a webhook can ask for.
var Types = []string{Opened, Paid, Closing, Closed, Refunded, Alarm}

// Event is what is told.
type Event struct {
	ID       string    `json:"id"` // the same in every attempt
	Type     string    `json:"type"`
	Time     time.Time `json:"time"` // when it happened
	Network  string    `json:"network"`
	Provider string    `json:"provider"` // identity, hex
	Channel  *Channel  `json:"channel,omitempty"`
	Alarm    *Alarmed  `json:"alarm,omitempty"`
}

// Channel is a channel after what happened. Of several payments that were not told of
// yet only the newest is: amounts are cumulative.
type Channel struct {
	ID       string `json:"id"`
	Phase    string `json:"phase"`
	Capacity uint64 `json:"capacity_sat"`
	Paid     uint64 `json:"paid_sat"`
	Charged  uint64 `json:"charged_msat"`
	Expiry   uint32 `json:"expiry_height"`
	Funding  string `json:"funding_txid"`
	Closing  string `json:"closing_txid"` // "": none was seen
	// Settled is what the transaction that is buried left to the provider before its fee
	// (sat), in closed and refunded, where it is known.
	Settled *uint64 `json:"settled_sat,omitempty"`
}

// Alarmed is an alarm.
type Alarmed struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	Over    bool   `json:"over"`
}

// Target is a webhook: where events go, and which.
type Target struct {
	Name      string   // for people, and of its outbox: letters, digits, - and _
	URL       string   // https, or http to this machine or where Plain is set
	Secrets   [][]byte // that its events are signed with, the newest first
	Events    []string // of Types; none: all
	PaidEvery time.Duration
	Plain     bool // http beyond this machine is wanted
}

// ErrTarget: a webhook that cannot be.
var ErrTarget = errors.New("webhook")

// DefaultPaidEvery is how long a channel's payments wait for the next to be told of.
const DefaultPaidEvery = 10 * time.Second

// Check refuses what cannot be delivered to, or not safely. Errors: ErrTarget.
func (t Target) Check() error {
	u, err := url.Parse(t.URL)
	switch {
	case t.Name == "" || len(t.Name) > 64 || strings.Trim(t.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "":
		return fmt.Errorf("%w: a name of letters, digits, - and _ is wanted, not %q", ErrTarget, t.Name)
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%w %s: its url is no http or https URL", ErrTarget, t.Name)
	case u.User != nil:
		return fmt.Errorf("%w %s: its url holds a user: events are signed instead", ErrTarget, t.Name)
	case u.Scheme == "http" && !t.Plain && !here(u.Hostname()):
		return fmt.Errorf("%w %s: its url is beyond this machine and without TLS: use https, or set insecure-http", ErrTarget, t.Name)
	case len(t.Secrets) == 0 || slices.ContainsFunc(t.Secrets, func(s []byte) bool { return len(s) < 24 }):
		return fmt.Errorf("%w %s: a secret has at least 24 bytes", ErrTarget, t.Name)
	case t.PaidEvery < 0:
		return fmt.Errorf("%w %s: paid-every is a time", ErrTarget, t.Name)
	}
	for _, e := range t.Events {
		if !slices.Contains(Types, e) {
			return fmt.Errorf("%w %s: there is no event %q: %s", ErrTarget, t.Name, e, strings.Join(Types, ", "))
		}
	}
	return nil
}

// Shown is the target's address without what may be secret in it.
func (t Target) Shown() string {
	u, err := url.Parse(t.URL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func here(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (t Target) wants(typ string) bool {
	return typ == Test || len(t.Events) == 0 || slices.Contains(t.Events, typ)
}

// ParseSecrets reads the secrets of a webhook, one a line: bytes as they stand, or
// whsec_ and base64. Errors: ErrTarget, without the secret.
func ParseSecrets(text string) (secrets [][]byte, err error) {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		line = strings.TrimSpace(line)
		raw := []byte(line)
		if coded, ok := strings.CutPrefix(line, "whsec_"); ok {
			if raw, err = base64.StdEncoding.DecodeString(coded); err != nil {
				return nil, fmt.Errorf("%w: line %d of its secrets is not whsec_ and base64", ErrTarget, i+1)
			}
		}
		if len(raw) < 24 {
			return nil, fmt.Errorf("%w: line %d of its secrets has %d bytes: at least 24 are wanted", ErrTarget, i+1, len(raw))
		}
		secrets = append(secrets, raw)
	}
	return secrets, nil
}

// Sign is the value of the header webhook-signature: for each secret v1 and the
// HMAC-SHA256 over "id.timestamp.body" in base64, as Standard Webhooks has it.
func Sign(secrets [][]byte, id string, at time.Time, body []byte) string {
	var all []string
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
		mac.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " ")
}

// Errors of Verify.
var (
	ErrSignature = errors.New("webhook: no signature fits")
	ErrTime      = errors.New("webhook: the timestamp is too far off")
)

// Verify is what a receiver does: it checks that one of the signatures is of the secret,
// and that the timestamp is at most tolerance off. Errors: ErrSignature, ErrTime.
func Verify(secret []byte, id, timestamp, signature string, body []byte, now time.Time, tolerance time.Duration) error {
	unix, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return ErrTime
	}
	at := time.Unix(unix, 0)
	if d := now.Sub(at); d > tolerance || d < -tolerance {
		return ErrTime
	}
	want := Sign([][]byte{secret}, id, at, body)
	for _, got := range strings.Fields(signature) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return nil
		}
	}
	return ErrSignature
}

// Store is what the outbox needs of a store.
type Store interface {
	Get(ctx context.Context, bucket, key string) (store.Entry, error)
	List(ctx context.Context, bucket, prefix string) ([]store.Entry, error)
	Commit(ctx context.Context, ops ...store.Op) error
}

// Config is what an Outbox needs. Store and Targets must be set.
type Config struct {
	Store             Store
	Targets           []Target
	Network, Provider string
	// Attempted, where it is set, is told of each attempt: delivered, refused (an answer
	// that is no success) or failed (no answer).
	Attempted func(target, result string)
	// Stuck, where it is set, is told when a target has taken nothing for StuckAfter,
	// and with "" when it takes something again.
	Stuck      func(target, why string)
	StuckAfter time.Duration // default ten minutes
	// Backoff is the wait after the first failed attempt; it doubles up to MaxBackoff.
	// Defaults: a second, and an hour.
	Backoff, MaxBackoff time.Duration
	Timeout             time.Duration // of an attempt; default ten seconds
	Now                 func() time.Time
	Rand                io.Reader
	Client              Doer // default: one that follows no redirect
}

// Changed are the events of a channel's change; before is nil where it is new.
func Changed(before *channel.PayeeRecord, next channel.PayeeRecord) (types []string) {
	was := channel.Funding
	var paid uint64
	if before != nil {
		was, paid = before.Phase, before.Paid
	}
	begun := func(p channel.Phase) bool { return p == channel.Settling || p == channel.Closing }
	if was == channel.Funding && (next.Phase == channel.Open || begun(next.Phase)) {
		types = append(types, Opened)
	}
	if next.Paid > paid {
		types = append(types, Paid)
	}
	if begun(next.Phase) && !begun(was) {
		types = append(types, Closing)
	}
	if next.Phase == channel.Closed && was != channel.Closed {
		types = append(types, Closed)
	}
	if next.Phase == channel.Refunded && was != channel.Refunded {
		types = append(types, Refunded)
	}
	return types
}

func shown(r channel.PayeeRecord) *Channel {
	return &Channel{ID: r.Terms.ID(), Phase: string(r.Phase), Capacity: r.Terms.Capacity, Paid: r.Paid, Charged: r.Charged,
		Expiry: r.Terms.Expiry, Funding: r.Terms.Outpoint.Hash.String(), Closing: r.SpentBy, Settled: r.Got}
}

// newID is an event's id: 128 random bits.
func newID(from io.Reader) (string, error) {
	if from == nil {
		from = rand.Reader
	}
	var raw [16]byte
	if _, err := io.ReadFull(from, raw[:]); err != nil {
		return "", err
	}
	return "evt_" + hex.EncodeToString(raw[:]), nil
}

func (e Event) encode() ([]byte, error) { return json.Marshal(e) }
