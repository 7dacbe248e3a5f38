package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
)

// meter shows a purchase: one line that is drawn again on a terminal, and plain
// sentences elsewhere.
type meter struct {
	out      *output
	mu       sync.Mutex
	start    time.Time
	from     uint64 // bytes that were there at the start
	started  bool
	last     time.Time
	phase    download.Phase
	capacity uint64
	budget   uint64 // sat, 0: not told
	drawn    bool
	chunk    uint64    // index and one of the chunk that a script was told of
	told     time.Time // when it was last said that nobody answers
	down     bool
	newest   download.Event
	at       uint64 // bytes when something came last
}

func newMeter(out *output, capacity, budget uint64) *meter {
	return &meter{out: out, capacity: capacity, budget: budget}
}

// event takes what a purchase tells of itself.
func (m *meter) event(ev download.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !m.started && ev.Phase == download.Buying {
		m.start, m.from, m.started = now, ev.Bytes, true
	}
	if ev.Phase != m.phase {
		m.change(ev)
	}
	m.newest = ev
	m.script(ev)
	m.outage(ev, now)
	if !m.out.drawn() || ev.Phase != download.Buying && ev.Phase != download.Hashing {
		return
	}
	if now.Sub(m.last) < 100*time.Millisecond && ev.Bytes < ev.Size {
		return
	}
	m.last = now
	m.draw(m.line(ev, now))
}

// script tells a script of every chunk that is begun.
func (m *meter) script(ev download.Event) {
	if !m.out.json || ev.Phase != download.Buying || m.chunk == ev.Chunk+1 {
		return
	}
	m.chunk = ev.Chunk + 1
	err := m.out.event("progress", map[string]any{
		"bytes": ev.Bytes, "size": ev.Size, "chunk": ev.Chunk, "chunks": ev.Chunks,
		"paid_sat": ev.Paid, "refundable_sat": ev.Refundable, "channel_id": ev.Channel,
	})
	if err != nil {
		m.out.say("output: %v", err)
	}
}

// tellOutage is how often it is said again that nobody answers, where no line can be
// drawn over.
const tellOutage = 5 * time.Minute

// outage tells that nobody answers, how long that is waited for, and that it is over.
func (m *meter) outage(ev download.Event, now time.Time) {
	if ev.Phase != download.Retrying {
		if m.down && ev.Phase == download.Buying && ev.Bytes > m.at {
			m.down = false
			m.clear()
			m.out.say("The provider answers again.")
		}
		m.at = ev.Bytes
		return
	}
	wait := ev.Wait.Round(time.Second / 10)
	if err := m.out.event("waiting", map[string]any{
		"reason": reason(ev.Reason), "wait_seconds": ev.Wait.Seconds(), "down_seconds": ev.Down.Seconds(), "gives_up_seconds": ev.Left.Seconds(),
		"paid_sat": ev.Paid, "refundable_sat": ev.Refundable, "channel_id": ev.Channel,
	}); err != nil {
		m.out.say("output: %v", err)
	}
	if !m.down || !m.out.drawn() && now.Sub(m.told) >= tellOutage {
		m.told = now
		m.clear()
		m.out.say("%s; trying again in %v%s.", outageText(ev.Reason), wait, giveUp(ev))
	} else if m.out.drawn() && errors.Is(ev.Reason, paywall.ErrBusy) {
		m.draw(fmt.Sprintf("%v; the next try is in %v%s", ev.Reason, wait, giveUp(ev)))
	} else if m.out.drawn() {
		m.draw(fmt.Sprintf("No answer for %v; the next try is in %v%s; refundable %s", ev.Down.Round(time.Second), wait, giveUp(ev), money(ev.Refundable*1000)))
	}
	m.down = true
}

// outageText says why something is tried again: nobody answers, or whoever does asks for that.
func outageText(why error) string {
	var busy *paywall.BusyError
	if errors.As(why, &busy) && busy.Problem != nil {
		return sentence(errors.New("The provider asks for patience: " + busy.Problem.Detail))
	}
	return fmt.Sprintf("That did not get through (%v)", why)
}

// giveUp says how much longer an answer is waited for.
func giveUp(ev download.Event) string {
	if ev.Left <= 0 {
		return ""
	}
	return fmt.Sprintf(", for %v more", ev.Left.Round(time.Second))
}

// change says what begins.
func (m *meter) change(ev download.Event) {
	m.phase = ev.Phase
	m.clear()
	switch ev.Phase {
	case download.Waiting:
		m.out.say("Another purchase from this provider is running; waiting for it.")
	case download.Repairing:
		m.out.say("What was here is damaged: %s are fetched again, free where they were paid.", size(ev.Bytes))
	case download.Opening:
		m.out.say("Opening the channel…")
	case download.Confirming:
		m.out.say("Waiting for the funding transaction's confirmations…")
	case download.Settling:
		m.out.say("All chunks are here and verified; the last payment goes out.")
	}
}

// line is the picture: how much is here, how fast, and whose the money is.
func (m *meter) line(ev download.Event, now time.Time) string {
	rate, left := "", ""
	if took := now.Sub(m.start).Seconds(); m.started && took > 0.2 && ev.Bytes > m.from {
		perSecond := float64(ev.Bytes-m.from) / took
		rate = size(uint64(perSecond)) + "/s"
		left = (time.Duration(float64(ev.Size-ev.Bytes)/perSecond) * time.Second).String()
	}
	line := fmt.Sprintf("%s %s/%s  chunk %d/%d  %s %s", bar(ev.Bytes, ev.Size, 24), size(ev.Bytes),
		size(ev.Size), min(ev.Chunk+1, ev.Chunks), ev.Chunks, rate, left)
	if ev.Phase == download.Buying {
		line += fmt.Sprintf("  paid %s", money(ev.Paid*1000))
		if m.budget > 0 {
			line += " of " + money(m.budget*1000)
		}
		line += ", refundable " + money(ev.Refundable*1000)
	}
	return line
}

// bar draws part of a whole.
func bar(part, whole uint64, width int) string {
	full := width
	if whole > 0 {
		full = int(float64(min(part, whole)) / float64(whole) * float64(width))
	}
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

func (m *meter) draw(line string) {
	m.out.redraw(line)
	m.drawn = true
}

// clear ends the line that was drawn.
func (m *meter) clear() {
	if !m.drawn {
		return
	}
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	fmt.Fprint(m.out.stderr, "\n")
	m.drawn = false
}

// stopped says, after a purchase that did not come to its end, where it stands.
func (m *meter) stopped() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
	if ev := m.newest; ev.Channel != "" {
		m.out.say("%s of %s are here and verified, %s paid; %s in channel %s are unpaid and stay yours.",
			size(ev.Bytes), size(ev.Size), money(ev.Paid*1000), money(ev.Refundable*1000), ev.Channel)
	}
}

// done ends the picture.
func (m *meter) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
}
