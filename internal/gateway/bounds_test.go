package gateway

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"
)

// A limit is kept for what one client has to itself: an IPv4 address, a /64 of IPv6.
func TestNetwork(t *testing.T) {
	for host, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::": "2001:db8:1:2::/64", "2001:db8:1:3::1": "2001:db8:1:3::/64", "fe80::1%eth0": "fe80::/64", "::1": "::/64",
		"": "", "@": "@", "somewhere": "somewhere",
	} {
		if got := network(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
	b := buckets{rate: 1, now: func() time.Time { return time.Unix(0, 0) }}
	served := 0
	for i := range 100 { // one /64, a hundred addresses
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = fmt.Sprintf("[2001:db8::%x]:9", i+1)
		if b.of(r).take() {
			served++
		}
	}
	if served != 2 {
		t.Errorf("%d were served", served)
	}
}

// Pitfall 41: what is remembered of clients, channels and chunks is bounded, whoever
// comes.
func TestPitfall41_MemoryIsBounded(t *testing.T) {
	b := buckets{rate: 1, now: func() time.Time { return time.Unix(0, 0) }}
	s := sent{rate: 1000}
	for i := range maxRemembered + 100 {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:9", i>>16, i>>8&255, i&255)
		b.of(r).take()
		s.add(sentKey{channel: "c", chunk: uint64(i)}, 1)
		s.limit(fmt.Sprint(i))
	}
	if len(b.by) > maxRemembered || len(s.by) > maxRemembered || len(s.slow) > maxRemembered {
		t.Errorf("%d clients, %d chunks, %d channels", len(b.by), len(s.by), len(s.slow))
	}
	if first, again := s.limit("same"), s.limit("same"); first != again {
		t.Error("a channel has two limits")
	}
	var l lists
	made := 0
	for i := range 100 {
		raw, err := l.get(fmt.Sprint(i), 1, func() ([]byte, error) { made++; return make([]byte, 1<<20), nil })
		if err != nil || len(raw) != 1<<20 || l.bytes > maxLists+1<<20 {
			t.Fatalf("%d: %d bytes kept, %v", i, l.bytes, err)
		}
	}
	if raw, err := l.get("none", 1, func() ([]byte, error) { return nil, nil }); raw != nil || err != nil || made != 100 {
		t.Errorf("%d lists made", made)
	}
}
