package sim

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
)

const realm = "sim.example"

// group is the size of a verified group, and of most chunks, in bytes.
const group = bao.MinGroup

// file is what is for sale.
type file struct {
	name     string
	data     []byte
	root     [32]byte
	outboard *bao.Outboard
	chunks   uint64
	price    uint64 // msat of each chunk
}

// newFile makes a file of so many chunks, each of one group but the last.
func newFile(w *world, name string, chunks, price uint64) *file {
	f := &file{name: name, chunks: chunks, price: price}
	f.data = make([]byte, int(chunks-1)*group+1+w.rng.IntN(group))
	for i := 0; i < len(f.data); i += 61 { // not all of it: what is between is zero
		f.data[i] = byte(w.rng.Uint32())
	}
	size, err := bao.OutboardSize(uint64(len(f.data)), group)
	w.must(err)
	raw := make(buffer, size)
	f.root, err = bao.Build(w.ctx, bytes.NewReader(f.data), uint64(len(f.data)), group, raw, bao.BuildConfig{Workers: 1})
	w.must(err)
	f.outboard, err = bao.NewOutboard(bytes.NewReader(raw), f.root, uint64(len(f.data)), group)
	w.must(err)
	return f
}

// span is where a chunk's bytes are.
func (f *file) span(chunk uint64) (off, length uint64) {
	off = chunk * group
	return off, min(group, uint64(len(f.data))-off)
}

func (f *file) slice(chunk uint64) bao.Slice {
	off, length := f.span(chunk)
	return bao.Slice{Root: f.root, Size: uint64(len(f.data)), GroupBytes: group, Offset: off, Length: length}
}

// buffer is memory that is written at offsets.
type buffer []byte

func (b buffer) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(b)) {
		return 0, fmt.Errorf("a write of %d bytes at %d, there are %d", len(p), off, len(b))
	}
	return copy(b[off:], p), nil
}

// seller is the payee's process: driver, paywall and watch.
type seller struct {
	*process
	keys     *keyCache
	payout   []byte
	files    []*file
	epoch    uint32 // of challenges; a restore begins another one
	payee    *payee.Payee
	server   *paywall.Server
	watch    *watch.Watch
	requests int
	restored bool // from an old copy of its disk
}

// start begins the process on what is on its disk.
func (s *seller) start() {
	s.disk.opened()
	s.dead = false
	w := s.w
	var err error
	s.payee, err = payee.New(payee.Config{
		Store: s.disk, Keys: s.keys, Chain: s.link, Network: "regtest", Payout: s.payout, Policy: w.pol,
		Constructions: []script.Construction{w.story.kind}, Dearest: func() uint64 { return w.story.price },
		Now: s.Now, Rand: dice{w}, Alone: true,
	})
	w.must(err)
	secret := [32]byte{1, byte(s.epoch)}
	s.server, err = paywall.NewServer(paywall.ServerConfig{
		Payee: s.payee, Network: "regtest", Secret: secret, Realm: realm, Recipient: strings.Repeat("7c", 32), Now: s.Now,
	})
	w.must(err)
	s.watch = &watch.Watch{Chain: s.link, Drivers: []watch.Driver{s.payee}}
}

// look is one step of the payee's watch.
func (s *seller) look() {
	if s.away() || s.dead || s.w.story.payee == "vanishes" && s.w.vanished {
		return
	}
	err := s.watch.Step(s.w.ctx)
	if err != nil {
		s.w.tell("  the payee's watch: %.300v", err)
	}
	s.w.audit.looked(err == nil)
}

// ServeHTTP is the payee's gateway.
func (s *seller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, chunk, err := s.wanted(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	s.requests++
	res := paywall.Resource{
		Quote: paywall.Quote{
			ChunkMsat: f.price, LastMsat: f.price, TotalMsat: f.price * f.chunks, CreditMsat: s.w.story.credit,
			Size: uint64(len(f.data)), ChunkBytes: group,
		},
		Items: []payee.Item{{Resource: f.root, Chunk: chunk, Price: f.price}},
	}
	grant, ok := s.server.Admit(w, r, res)
	if !ok {
		return
	}
	off, length := f.span(chunk)
	var body bytes.Buffer
	s.w.must(bao.ExtractSlice(s.w.ctx, &body, bytes.NewReader(f.data), f.outboard, off, length))
	s.w.audit.deliver(s, grant.Receipt.Channel, f, chunk)
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	if _, err := w.Write(body.Bytes()); err != nil {
		s.w.violate("an answer in memory was not written: %v", err)
	}
}

// wanted reads a request for /NAME?chunk=N.
func (s *seller) wanted(r *http.Request) (*file, uint64, error) {
	for _, f := range s.files {
		if r.URL.Path != "/"+f.name {
			continue
		}
		text := r.URL.Query().Get("chunk")
		if text == "" {
			return f, 0, nil
		}
		chunk, err := strconv.ParseUint(text, 10, 32)
		if err != nil || chunk >= f.chunks {
			return nil, 0, fmt.Errorf("%s has no chunk %q", f.name, text)
		}
		return f, chunk, nil
	}
	return nil, 0, fmt.Errorf("there is no %q", r.URL.Path)
}

// answer is a response in memory.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// bytes is the response as it travels.
func (a *answer) bytes(w *world, method string) []byte {
	a.WriteHeader(http.StatusOK)
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	if a.status != http.StatusNoContent {
		if a.header.Get("Content-Length") == "" {
			a.header.Set("Content-Length", strconv.Itoa(a.body.Len()))
		}
	}
	w.must(a.header.Write(&b))
	b.WriteString("\r\n")
	if method != http.MethodHead {
		b.Write(a.body.Bytes())
	}
	return b.Bytes()
}

// handle takes a request as it came over the line and gives the answer's bytes;
// nil where the connection breaks.
func (s *seller) handle(reader *bufio.Reader) (raw []byte, a *answer) {
	if s.dead || s.away() || s.w.story.payee == "vanishes" && s.w.vanished {
		return nil, nil
	}
	req, err := http.ReadRequest(reader)
	if err != nil {
		return nil, nil // a server hangs up on what is no request
	}
	if s.point("before a request is read") != nil {
		return nil, nil
	}
	a = &answer{header: http.Header{}}
	s.ServeHTTP(a, req)
	if s.point("before an answer is sent") != nil {
		return nil, nil
	}
	raw = a.bytes(s.w, req.Method)
	s.w.audit.answered(s, a)
	return raw, a
}
