package metrics

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/channel"
)

// Within are the numbers of blocks to the expiry that the value at risk is given for: a
// day, a week, two weeks, and what is closer.
var Within = []uint32{6, 18, 36, 72, 144, 432, 1008, 2016}

// Standing is where all channels stand.
type Standing struct {
	Phases   map[channel.Phase]int
	Capacity uint64 // sat, of channels that are not over
	Paid     uint64 // sat, the same
	Owed     uint64 // msat, charged and not paid, the same
	Exposure uint64 // msat, the most that would be owed if every open channel used up its credit and left
	Earned   uint64 // msat, charged in all channels, ever
	Settled  uint64 // sat, what channels that are over left to the provider before fees
	Lost     uint64 // msat, charged in channels that are over, and never paid or refunded to the payer
	Stopped  int    // channels in which nothing more is signed
	// AtRisk is what is paid and not settled, in sat, in channels that expire within
	// so many blocks, for each of Within; in a duplex channel an older state does so
	// before the refund.
	AtRisk []uint64
	// Nearest is how many blocks the next expiry of a channel with something at risk is
	// away; -1: there is none.
	Nearest int64
}

// StandingOf sums records up, at a tip.
func StandingOf(records []channel.PayeeRecord, tip uint32) Standing {
	s := Standing{Phases: map[channel.Phase]int{}, AtRisk: make([]uint64, len(Within)), Nearest: -1}
	for _, r := range records {
		s.Phases[r.Phase]++
		if r.Phase != channel.Abandoned {
			s.Earned += r.Charged
		}
		if r.Phase.Final() {
			s.Settled += r.Earned()
			s.Lost += r.Lost()
			continue
		}
		if r.Stopped != "" {
			s.Stopped++
		}
		s.Capacity += r.Terms.Capacity
		s.Paid += r.Paid
		s.Owed += r.Owed()
		if r.Phase == channel.Open {
			s.Exposure += max(r.Owed(), r.Terms.Credit)
		}
		if r.Claimed() == 0 || tip == 0 {
			continue
		}
		left := r.Until() - min(tip, r.Until())
		if s.Nearest < 0 || int64(left) < s.Nearest {
			s.Nearest = int64(left)
		}
		for i, within := range Within {
			if left <= within {
				s.AtRisk[i] += r.Claimed()
			}
		}
	}
	return s
}

// Now is what is true at a scrape. What is not known is left at its zero.
type Now struct {
	Standing    *Standing
	TipHeight   uint32
	TipTime     time.Time
	LastLook    time.Time // when the chain and every channel were last looked at without a failure
	Ready       bool
	Deliveries  int
	SentBytes   uint64
	DiskFree    uint64         // bytes, where the store is
	Certificate time.Time      // when it ends
	Alarms      map[string]int // that are not over, by kind
	Pending     map[string]int // events, by webhook
}

// snapshot collects what is true now.
type snapshot struct{ now func(context.Context) Now }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	channelsNow  = desc("spillway_channels", "Channels, by phase.", "phase")
	capacityNow  = desc("spillway_capacity_sat", "Capacity of channels that are not over, in sat.")
	paidNow      = desc("spillway_paid_sat", "Paid in channels that are not over, in sat.")
	owedNow      = desc("spillway_owed_msat", "Charged and not paid in channels that are not over, in msat.")
	exposureNow  = desc("spillway_exposure_msat", "The most that would be owed if every open channel used up its credit and left, in msat.")
	earnedNow    = desc("spillway_earned_msat", "Charged in all channels, ever, in msat.")
	settledNow   = desc("spillway_settled_sat", "What transactions that are buried left to the provider before their fees, in sat.")
	lostNow      = desc("spillway_lost_msat", "Charged in channels that are over and never received, in msat.")
	stoppedNow   = desc("spillway_channels_stopped", "Channels that are not over in which nothing more is signed.")
	atRiskNow    = desc("spillway_value_at_risk_sat", "Paid and not settled in channels that expire within so many blocks, in sat.", "blocks")
	nearestNow   = desc("spillway_next_expiry_blocks", "Blocks to the next expiry of a channel with something at risk; absent where there is none.")
	tipNow       = desc("spillway_chain_tip_height", "Height of the newest block that is known.")
	tipAgeNow    = desc("spillway_chain_tip_age_seconds", "Age of the newest block, by its own time.")
	lookNow      = desc("spillway_watch_last_success_timestamp_seconds", "When the chain and every channel were last looked at without a failure.")
	readyNow     = desc("spillway_ready", "1: it can sell; 0: it cannot, for now.")
	deliveryNow  = desc("spillway_deliveries", "Deliveries that are running.")
	sentNow      = desc("spillway_sent_bytes_total", "Bytes of content that were sent.")
	diskNow      = desc("spillway_disk_free_bytes", "Free space where the store is.")
	certNow      = desc("spillway_certificate_expiry_timestamp_seconds", "When the listener's certificate ends.")
	alarmsNow    = desc("spillway_alarms", "Alarms that are not over, by kind.", "kind")
	pendingNow   = desc("spillway_webhook_pending", "Events that a webhook has not taken yet.", "webhook")
	descriptions = []*prometheus.Desc{channelsNow, capacityNow, paidNow, owedNow, exposureNow, earnedNow, settledNow, lostNow, stoppedNow, atRiskNow, nearestNow,
		tipNow, tipAgeNow, lookNow, readyNow, deliveryNow, sentNow, diskNow, certNow, alarmsNow, pendingNow}
)

// Describe implements prometheus.Collector.
func (s *snapshot) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		to <- d
	}
}

// scrapeLimit bounds how long a scrape asks.
const scrapeLimit = 20 * time.Second

// Collect implements prometheus.Collector.
func (s *snapshot) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	n := s.now(ctx)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if st := n.Standing; st != nil {
		for _, phase := range []channel.Phase{channel.Funding, channel.Open, channel.Settling, channel.Closing, channel.Closed, channel.Refunded, channel.Abandoned} {
			gauge(channelsNow, float64(st.Phases[phase]), string(phase))
		}
		gauge(capacityNow, float64(st.Capacity))
		gauge(paidNow, float64(st.Paid))
		gauge(owedNow, float64(st.Owed))
		gauge(exposureNow, float64(st.Exposure))
		gauge(earnedNow, float64(st.Earned))
		gauge(settledNow, float64(st.Settled))
		gauge(lostNow, float64(st.Lost))
		gauge(stoppedNow, float64(st.Stopped))
		for i, within := range Within {
			gauge(atRiskNow, float64(st.AtRisk[i]), strconv.Itoa(int(within)))
		}
		if st.Nearest >= 0 {
			gauge(nearestNow, float64(st.Nearest))
		}
	}
	if n.TipHeight > 0 {
		gauge(tipNow, float64(n.TipHeight))
		gauge(tipAgeNow, time.Since(n.TipTime).Seconds())
	}
	if !n.LastLook.IsZero() {
		gauge(lookNow, float64(n.LastLook.Unix()))
	}
	ready := 0.0
	if n.Ready {
		ready = 1
	}
	gauge(readyNow, ready)
	gauge(deliveryNow, float64(n.Deliveries))
	to <- prometheus.MustNewConstMetric(sentNow, prometheus.CounterValue, float64(n.SentBytes))
	if n.DiskFree > 0 {
		gauge(diskNow, float64(n.DiskFree))
	}
	if !n.Certificate.IsZero() {
		gauge(certNow, float64(n.Certificate.Unix()))
	}
	for kind, count := range n.Alarms {
		gauge(alarmsNow, float64(count), kind)
	}
	for hook, count := range n.Pending {
		gauge(pendingNow, float64(count), hook)
	}
}
