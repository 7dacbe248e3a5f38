package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
)

// The line is drawn again under everything that is said, and only on a terminal.
func TestLiveLine(t *testing.T) {
	var b bytes.Buffer
	o := &output{stderr: &b, terminal: true}
	o.setLive("paid 5 sat")
	o.say("a file is offered")
	o.setLive("")
	if got := b.String(); got != "\r\x1b[2Kpaid 5 sat\r\x1b[2Ka file is offered\npaid 5 sat\r\x1b[2K" {
		t.Errorf("%q", got)
	}
	for _, o := range []*output{{stderr: &b}, {stderr: &b, terminal: true, quiet: true}, {stderr: &b, terminal: true, json: true}} {
		b.Reset()
		o.setLive("paid 5 sat")
		if b.Len() > 0 || o.live != "" {
			t.Errorf("drawn where there is no terminal to draw on: %q", b.String())
		}
	}
}

func TestStanding(t *testing.T) {
	open := channel.PayeeRecord{Phase: channel.Open, Paid: 7, Charged: 9000, Terms: channel.Terms{Credit: 5000}}
	over := open
	over.Phase = channel.Closed
	s := standingOf([]channel.PayeeRecord{open, over, open})
	if s.earned != 3*7000+4000 || s.open != 2 || s.paid != 14 || s.owed != 4000 || s.exposure != 10_000 {
		t.Errorf("%+v", s)
	}
	s.deliveries, s.perSecond = 1, 2048
	if line := s.line(&output{}); !strings.HasPrefix(line, "earned 25 sat, 14 sat of it in open channels") || !strings.HasSuffix(line, "2 channels  1 delivery, 2.0 KiB/s") || strings.Contains(line, "\x1b") {
		t.Error(line)
	}
}
