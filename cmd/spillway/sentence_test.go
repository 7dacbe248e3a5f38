package main

import (
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
)

// TestEveryStateHasASentence: the list of channels says of each what it means.
func TestEveryStateHasASentence(t *testing.T) {
	phases := []channel.Phase{channel.Prepared, channel.Funding, channel.Open, channel.Settling, channel.Closing,
		channel.Refunding, channel.Closed, channel.Refunded, channel.Abandoned}
	for _, role := range []string{"payer", "payee"} {
		for _, phase := range phases {
			r := row{Role: role, Phase: string(phase), Capacity: 5000, Paid: 700, Refundable: 4300, Expiry: 1258}
			said := r.sentence()
			if !strings.HasPrefix(strings.ToLower(said), string(phase)) || !strings.HasSuffix(said, ".") {
				t.Errorf("%s, %s: %q", role, phase, said)
			}
			if role == "payer" && (phase == channel.Funding || phase == channel.Open) && !(strings.Contains(said, "4300 sat") && strings.Contains(said, "1258")) {
				t.Errorf("what is refundable, and when, is not in %q", said)
			}
		}
	}
	for want, r := range map[string]row{
		"both ways": {Role: "payer", Phase: "open", Epoch: 1},
		"Restored":  {Role: "payee", Phase: "open", Restored: true},
		"Imported":  {Role: "payer", Phase: "open", Imported: true},
		"STOPPED":   {Role: "payer", Phase: "open", Stopped: "why"},
	} {
		if said := r.sentence(); !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
}
