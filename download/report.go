package download

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/internal/durable"
)

// Report is the diagnostic report about wrong bytes. It proves nothing to others:
// nobody signed those bytes.
type Report struct {
	Note     string    `json:"note"`
	Time     time.Time `json:"time"`
	URL      string    `json:"url"`
	Provider string    `json:"provider"`
	Channel  string    `json:"channel"`
	Root     string    `json:"root"`
	Chunk    uint64    `json:"chunk"`
	Asked    [2]uint64 `json:"asked"` // bytes of the file, the end not included
	Part     string    `json:"part"`  // header, node or group
	Offset   uint64    `json:"offset"`
	Length   uint64    `json:"length"`
	Want     string    `json:"want"` // chaining value, hex
	Got      string    `json:"got"`
	Bytes    string    `json:"bytes"` // what was received, hex
}

// wrong keeps what a provider sent wrong as a report beside the file. The chunk
// is not paid.
func (r *run) wrong(n uint64, asked content.Range, err error) error {
	out := &WrongBytesError{Chunk: n, Err: err}
	var w *bao.WrongBytesError
	if !errors.As(err, &w) {
		return out
	}
	m := &r.p.Manifest
	raw, failed := json.MarshalIndent(Report{
		Note: "These bytes did not match the root. They were not paid for. This is a report, not a proof.",
		Time: r.b.cfg.Now().UTC(), URL: r.asked.target, Provider: m.Provider.String(), Channel: r.id, Root: m.Root.String(),
		Chunk: n, Asked: [2]uint64{asked.Start, asked.End}, Part: string(w.Part), Offset: w.Offset, Length: w.Length,
		Want: hex.EncodeToString(w.Want[:]), Got: hex.EncodeToString(w.Got[:]), Bytes: hex.EncodeToString(w.Bytes),
	}, "", "  ")
	if failed == nil {
		out.Report, failed = writeReport(r.sink.PartPath(), raw)
	}
	if failed != nil {
		return errors.Join(out, fmt.Errorf("the report was not written: %w", failed))
	}
	return out
}

// writeReport puts a report beside the part file, whole or not at all.
func writeReport(part string, raw []byte) (string, error) {
	path := part + ".wrong.json"
	if err := durable.Write(path, append(raw, '\n')); err != nil {
		return "", err
	}
	return path, nil
}
