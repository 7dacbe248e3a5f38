package paywall

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// pulled is a pull from a server that sends these messages and goes.
func pulled(t *testing.T, messages ...[]byte) *pull {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		over := &laid{ResponseWriter: w, stall: time.Minute}
		ws, err := websocket.Accept(over, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for i, m := range messages {
			if i%2 == 0 { // both ways in which a server writes a message
				err = over.pipe.small(m)
			} else {
				half := len(m) / 2
				err = over.pipe.message(append(make([]byte, socketHead), m[:half]...), m[half:])
			}
			if err != nil {
				t.Error(err)
			}
		}
		_ = ws.Close(websocket.StatusNormalClosure, "") // the client is gone, or goes
	}))
	t.Cleanup(s.Close)
	ws, _, err := websocket.Dial(t.Context(), s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(maxSocketAnswer)
	return newPull(ws)
}

// Frames are read as they were written, however they are spread over messages, and bytes
// that nobody wants are passed over.
func TestPullReadsFrames(t *testing.T) {
	long := bytes.Repeat([]byte("spillway"), maxDataFrame/8)
	data := func(order uint64, b []byte) []byte { return append(dataHead(nil, order, len(b)), b...) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	ack := ackFrame{5, tally{1, 2000, 3}}.append(nil, frameAck)
	end := endFrame{order: 9}.append(nil)
	r := pulled(t, ack, join(ack, data(9, long)), data(9, []byte("x")), join(data(8, long[:70]), data(9, []byte("yz")), end), bytes.Repeat(ack, 1000))
	var got []byte
	acks := 0
	for acks < 1002 {
		f, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case f.kind == frameAck:
			if a, err := parseAck(f.body); err != nil || a.number != 5 || a.at.charged != 2000 {
				t.Fatalf("%+v, %v", a, err)
			}
			acks++
		case f.kind == frameData && r.order == 9:
			for piece := make([]byte, 50_000); r.rest > 0; {
				n, err := r.data(piece)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, piece[:n]...)
			}
		}
	}
	if want := join(long, []byte("xyz")); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, not %d", len(got), len(want))
	}
	if _, err := r.next(); err == nil || errors.Is(err, errFrame) {
		t.Errorf("behind the last message: %v", err)
	}
}

// What is no frame is refused as that.
func TestPullRefusesNonsense(t *testing.T) {
	for name, message := range map[string][]byte{
		"an empty message":             {},
		"no length":                    {frameAck},
		"a length that is none":        {frameAck, 0x80, 0x00},
		"a length without an end":      bytes.Repeat([]byte{0xff}, 12),
		"a frame that is cut":          {frameAck, 4, 1, 2},
		"a frame longer than messages": {frameAck, 0xff, 0xff, 0xff, 0x07},
		"data without an order":        {frameData, 0},
		"data without bytes":           {frameData, 1, 7},
		"data longer than they may be": append(dataHead(nil, 1, maxDataFrame+1), make([]byte, maxDataFrame+1)...),
	} {
		if f, err := pulled(t, message).next(); !errors.Is(err, errFrame) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	r := pulled(t, append(dataHead(nil, 1, 100), make([]byte, 60)...))
	if _, err := r.next(); err != nil || r.rest != 100 {
		t.Fatalf("%d bytes, %v", r.rest, err)
	}
	if n, err := io.ReadFull(readerFunc(r.data), make([]byte, 100)); n != 60 || !errors.Is(err, errFrame) {
		t.Errorf("%d bytes of data that are cut, %v", n, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// countedConn counts the writes to a connection, and their bytes.
type countedConn struct {
	net.Conn
	sizes []int
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.sizes = append(c.sizes, len(p))
	return len(p), nil
}

func (c *countedConn) SetWriteDeadline(time.Time) error { return nil }

// A long answer fills its records of TLS: the first write of each message is one, and what
// follows whole ones, up to the end.
func TestCompactAnswerFillsRecords(t *testing.T) {
	conn := &countedConn{}
	x := &wire{s: &Server{}, pipe: &pipe{Conn: conn, stall: time.Minute}}
	x.out.write, x.out.limit = x.pipe.small, maxDataFrame
	a := &compactAnswer{x: x, order: 300, header: http.Header{}}
	a.header.Set("Content-Type", "application/octet-stream")
	for _, n := range []int{1, 129_000, 64 << 10, 3, 700_000, 5} {
		if done, err := a.Write(make([]byte, n)); done != n || err != nil {
			t.Fatalf("%d of %d bytes, %v", done, n, err)
		}
	}
	a.end(false)
	sum := 0
	for i, n := range conn.sizes {
		if sum += n; i < len(conn.sizes)-1 && n%recordBytes != 0 {
			t.Errorf("write %d of %d has %d bytes", i, len(conn.sizes), n)
		}
	}
	if least := 894_545; sum < least || sum > least+1000 || len(conn.sizes) > 2*(sum/maxDataFrame+1) {
		t.Errorf("%d bytes in %d writes", sum, len(conn.sizes))
	}
}
