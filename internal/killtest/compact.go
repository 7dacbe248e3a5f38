//go:build linux && amd64

package killtest

import "encoding/binary"

// ack is what a provider acknowledges over the compact transport, of a channel that only
// its client could name: paid in sat and charged in msat. docs/protocol.md, section 21.
type ack struct{ paid, charged uint64 }

// anyChannel stands for the channel of an ack: one of those that there are.
const anyChannel = "any"

// compact names what is sent in a message of the compact transport; false: it is none.
func compact(b []byte) (p point, ok bool) {
	if len(b) < 2 || b[0] != 0x82 { // a whole binary message. RFC 6455, section 5.2
		return p, false
	}
	n, masked, rest := uint64(b[1]&0x7f), b[1]&0x80 != 0, b[2:]
	switch {
	case n == 126 && len(rest) >= 2:
		n, rest = uint64(binary.BigEndian.Uint16(rest)), rest[2:]
	case n == 127 && len(rest) >= 8:
		n, rest = binary.BigEndian.Uint64(rest), rest[8:]
	}
	if masked && len(rest) >= 4 {
		key := rest[:4]
		rest = append([]byte(nil), rest[4:]...)
		for i := range rest {
			rest[i] ^= key[i%4]
		}
	}
	p.name = "send body"
	rest = rest[:min(n, uint64(len(rest)))]
	for len(rest) > 0 {
		kind, size, used := rest[0], uint64(0), 0
		if size, used = binary.Uvarint(rest[1:]); used <= 0 || size > uint64(len(rest)-1-used) {
			return p, true // cut off, or bytes of a file
		}
		body := rest[1+used : 1+used+int(size)]
		rest = rest[1+used+int(size):]
		switch {
		case masked && kind >= 1 && kind <= 3: // bind, update, order
			p.name = "send payment"
		case !masked && (kind == 0x42 || kind == 0x43): // bound, ack: number, tally
			p.acks = append(p.acks, acked(body, 1)...)
		case !masked && kind == 0x44: // reply: order, status, slip
			p.acks = append(p.acks, acked(body, 2)...)
		}
	}
	if len(p.acks) > 0 {
		p.name = "send receipt"
	}
	return p, true
}

// acked reads a tally behind so many numbers; in a reply a flag says whether there is one.
func acked(body []byte, before int) []ack {
	numbers := make([]uint64, 0, before+3)
	for len(numbers) < before+3 {
		n, used := binary.Uvarint(body)
		if used <= 0 {
			return nil
		}
		numbers, body = append(numbers, n), body[used:]
	}
	if before == 1 {
		return []ack{{numbers[1], numbers[2]}}
	}
	if numbers[2] != 1 {
		return nil
	}
	charged, used := binary.Uvarint(body)
	if used <= 0 {
		return nil
	}
	return []ack{{numbers[3], charged}}
}

// acks notes what the provider acknowledges.
func (r *round) acks(a ack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receipts++
	r.paid[anyChannel] = max(r.paid[anyChannel], a.paid)
	r.charged[anyChannel] = max(r.charged[anyChannel], a.charged)
}

// holds reports whether a side's books hold as much as was acknowledged on a channel, of
// any of them where that is not known.
func holds(books map[string]entry, id string, paid, charged uint64) bool {
	if id != anyChannel {
		return books[id].Paid >= paid && books[id].Charged >= charged
	}
	most := entry{}
	for _, e := range books {
		most.Paid, most.Charged = max(most.Paid, e.Paid), max(most.Charged, e.Charged)
	}
	return most.Paid >= paid && most.Charged >= charged
}
