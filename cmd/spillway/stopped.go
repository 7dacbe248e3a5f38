package main

import (
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// stopAlarm says that a channel was stopped, also with --quiet: somebody has to look.
func (a *app) stopAlarm(stop *channel.StoppedError) {
	f := explain(stop)
	a.out.alarm("ALARM: %s\n  money: %s\n  next:  %s", f.message, f.money, f.next)
	a.alarms.raise(alarmStopped, stop.Channel, f.message)
	if err := a.out.event("alarm", map[string]any{"kind": "stopped", "channel_id": stop.Channel, "role": stop.Side.String(), "text": stop.Reason}); err != nil {
		a.out.say("the alarm was not written: %v", err)
	}
}

// explainStopped is nil for what is no stop of a channel on this machine.
func explainStopped(stop *channel.StoppedError, err error) *failure {
	f := &failure{exit: exitLocal, code: "channel-stopped", message: sentence(err), err: err,
		money: "Nothing more is signed in this channel. What was not signed away is yours: it comes back by the refund after the expiry, or earlier when the provider settles.",
		next:  "Keep a copy of the data folder and report the message; run spillway channels refund " + stop.Channel + " after the expiry. A new get opens another channel."}
	if stop.Side == script.Payee {
		f.money = "Nothing more is delivered, taken or signed in this channel, but the settlement of what is paid in it. At most the credit is unpaid."
		f.next = "Keep a copy of the data folder and report the message; settle it now with: spillway channels close " + stop.Channel + ", or leave it: it is settled at its margin."
	}
	return f
}

// stoppedFor is why a channel is stopped: as it is marked, or will be when it is next used.
func stoppedFor(marked string, unsound error) string {
	if marked == "" && unsound != nil {
		return unsound.Error()
	}
	return marked
}

// stoppedSentence is what channels list and show say of a stopped channel.
func (r row) stoppedSentence() string {
	what := fmt.Sprintf("%d sat that are paid are settled when you close it, or at its margin before height %d.", r.Paid, r.before())
	if r.Role == "payer" {
		what = fmt.Sprintf("%d sat that are unpaid come back by the refund from height %d on, or when the provider settles.", r.Refundable, r.Expiry)
	}
	switch channel.Phase(r.Phase) {
	case channel.Closed, channel.Refunded, channel.Abandoned:
		what = "It is over (" + r.Phase + ")."
	}
	return fmt.Sprintf("STOPPED, nothing more is signed in it: something that must always hold did not (%s). %s Please keep a copy of the data folder and report this.", r.Stopped, what)
}
