package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/wallet"
)

// Every error that can reach a person has an exit code, says what it means for
// the money and what to do next; the message stays the one of where it happened.
func TestErrorsAreExplained(t *testing.T) {
	for _, c := range []struct {
		err  error
		exit int
		code string
	}{
		{store.ErrLocked, 8, "locked"},
		{store.ErrFull, 8, "disk-full"},
		{syscall.ENOSPC, 8, "disk-full"},
		{store.ErrDamaged, 8, "damaged"},
		{store.ErrReadOnly, 8, "read-only"},
		{store.ErrNewer, 8, "newer-data"},
		{store.ErrFailed, 8, "disk-failed"},
		{store.ErrConflict, 8, "busy"},
		{store.ErrInvalid, 1, "defect"},
		{content.ErrBusy, 8, "locked"},
		{keys.ErrDamaged, 8, "seed-damaged"},
		{fmt.Errorf("%w: seed: %w", keys.ErrDamaged, keys.ErrWords), 8, "seed-damaged"},
		{keys.ErrExists, 8, "wallet-exists"},
		{keys.ErrWords, 2, "words"},
		{keys.ErrPassphrase, 8, "passphrase"},
		{keys.ErrPermissions, 8, "permissions"},
		{keys.ErrNoSeed, 8, "no-wallet"},
		{wallet.ErrOtherSeed, 8, "other-seed"},
		{wallet.ErrAddress, 2, "address"},
		{wallet.ErrOutput, 2, "amount"},
		{wallet.ErrRate, 7, "fee-rate"},
		{wallet.ErrNotBuilt, 2, "unknown-transaction"},
		{wallet.ErrMined, 9, "mined"},
		{wallet.ErrNoChange, 9, "no-change"},
		{wallet.ErrRateReached, 9, "rate-reached"},
		{&wallet.InsufficientError{Needed: 2, Available: 1}, 4, "not-enough-coins"},
		{chain.ErrRejected, 7, "rejected"},
		{chain.ErrUnavailable, 7, "chain-unavailable"},
		{channel.ErrBudget, 3, "budget"},
		{channel.ErrPrepay, 3, "prepayment"},
		{channel.ErrOwes, 9, "owes"},
		{channel.ErrNotYet, 9, "too-early"},
		{channel.ErrFinalized, 9, "finalized"},
		{payer.ErrUnknown, 2, "unknown-channel"},
		{&paywall.RefusedError{Status: 404}, 9, "refused"},
		{paywall.ErrMisbehaved, 5, "misbehaved"},
		{paywall.ErrUnreachable, 6, "unreachable"},
		{paywall.ErrNotProvider, 6, "not-a-provider"},
		{paywall.ErrPriceChanged, 9, "price-changed"},
		{download.ErrOtherContent, 9, "other-content"},
		{fmt.Errorf("%w: %w", download.ErrChanged, paywall.ErrInsufficient), 9, "other-content"},
		{download.ErrFees, 3, "fees"},
		{download.ErrExists, 2, "file-exists"},
		{bao.ErrWrongBytes, 5, "wrong-bytes"},
		{errors.New("something nobody foresaw"), 1, "defect"},
	} {
		err := fmt.Errorf("where it happened: %w", c.err)
		f := explain(err)
		if f.exit != c.exit || f.code != c.code {
			t.Errorf("%v: exit %d, code %q; want %d, %q", c.err, f.exit, f.code, c.exit, c.code)
		}
		if !strings.HasPrefix(f.message, "where it happened: ") || !errors.Is(f, c.err) {
			t.Errorf("%v: the message is %q", c.err, f.message)
		}
		for name, part := range map[string]string{"money": f.money, "next": f.next} {
			if len(part) < 10 || !strings.ContainsAny(part[:1], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
				t.Errorf("%v: %s is %q", c.err, name, part)
			}
		}
	}
}

// What went wrong first decides, also where putting things away failed as well.
func TestJoinedErrorsKeepTheirKind(t *testing.T) {
	if f := explain(errors.Join(keys.ErrDamaged, errors.New("and the folder did not close"))); f.exit != 8 || strings.Contains(f.message, "\n") {
		t.Fatalf("exit %d: %q", f.exit, f.message)
	}
}
