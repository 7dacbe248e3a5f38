package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spillway/spillway/content"
)

// ErrStream: what Want.Stream writes to takes nothing more. Nothing is fetched or paid
// for it any more; what came is kept.
var ErrStream = errors.New("the output takes nothing more")

// rechecker is a Sink that can verify again what is in it; content.Sink is one.
type rechecker interface {
	Recheck(ctx context.Context, root content.Hash, groupBytes uint32, within content.Range, w io.WriterAt, progress func(done uint64)) (bad *content.Ranges, err error)
}

// stream passes verified bytes on in order. What comes out of order is passed on
// later, read back and verified once more.
type stream struct {
	w    io.Writer
	mu   sync.Mutex
	next uint64 // offset of the first byte that was not passed on
}

// WriteAt takes verified bytes. What was passed on already, or lies ahead, is not
// passed on.
func (s *stream) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if start := uint64(off); start <= s.next && s.next < start+uint64(len(p)) {
		n, err := s.w.Write(p[s.next-start:])
		s.next += uint64(max(0, n))
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrStream, err)
		}
	}
	return len(p), nil
}

// at is the offset of the first byte that was not passed on.
func (s *stream) at() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// streamed is a sink whose bytes are passed on as they come.
type streamed struct {
	Sink
	rechecker
	bao interface {
		WriteNodes(p []byte, index uint64) error
	}
	to *stream
}

// WriteNodes implements bao.NodeWriter.
func (s *streamed) WriteNodes(p []byte, index uint64) error { return s.bao.WriteNodes(p, index) }

// WriteAt writes bytes that were verified to the file, and passes them on.
func (s *streamed) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.Sink.WriteAt(p, off)
	if err != nil {
		return n, err
	}
	return s.to.WriteAt(p, off)
}

// startStream passes on what an earlier run left at the beginning of the file, and
// then all that comes.
func (r *run) startStream(ctx context.Context) error {
	if r.p.Want.Stream == nil {
		return nil
	}
	check, ok := r.sink.(rechecker)
	nodes, keeps := r.sink.(interface {
		WriteNodes(p []byte, index uint64) error
	})
	if !ok || !keeps {
		return errors.New("download: this sink can't verify again what is in it, so it can't be streamed")
	}
	if r.out == nil {
		r.out = &stream{w: r.p.Want.Stream, next: r.p.Want.Part.Start}
	}
	r.sink = &streamed{Sink: r.sink, rechecker: check, bao: nodes, to: r.out}
	return r.passOn(ctx)
}

// passOn passes on what is verified behind what was passed on last. Where it turns
// out to be wrong it is fetched again.
func (r *run) passOn(ctx context.Context) error {
	for r.out != nil {
		from, have, upto := r.out.at(), r.verified(), r.p.end()
		if from >= upto || !have.Contains(from, from+1) {
			return nil
		}
		if gaps := have.Missing(from, upto); len(gaps) > 0 {
			upto = gaps[0].Start / uint64(r.p.Manifest.GroupBytes) * uint64(r.p.Manifest.GroupBytes)
		}
		if upto <= from {
			return nil
		}
		m := &r.p.Manifest
		bad, err := r.sink.(rechecker).Recheck(ctx, m.Root, m.GroupBytes, content.Range{Start: from, End: upto}, r.out, nil)
		if errors.Is(err, content.ErrNoTree) {
			return r.startOver(ctx)
		} else if err != nil {
			return err
		}
		if bad.Total() > 0 {
			return nil // it is missing now
		}
	}
	return nil
}

// repair verifies again what is in a part file that somebody else may have changed.
// What is wrong is fetched again, and only that. Without what it takes for that the
// file is read back as a whole in the end.
func (r *run) repair(ctx context.Context) error {
	check, ok := r.sink.(rechecker)
	if !r.j.Suspect || !ok {
		return nil
	}
	m := &r.p.Manifest
	bad, err := check.Recheck(ctx, m.Root, m.GroupBytes, content.Range{End: m.Size}, discard{}, func(done uint64) {
		r.event(Event{Phase: Hashing, Bytes: done})
	})
	switch {
	case errors.Is(err, content.ErrNoTree):
		return nil
	case err != nil:
		return err
	}
	if bad.Total() > 0 {
		r.b.cfg.Log.Warn("the partial file was damaged; what is wrong is fetched again", "path", r.p.Path, "bytes", bad.Total())
		r.event(Event{Phase: Repairing, Bytes: bad.Total()})
	}
	next := r.j.clone()
	next.Suspect, next.Verified = false, r.verified()
	if err := r.sync(&next); err != nil {
		return err
	}
	return r.b.save(ctx, r.j, next)
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// tidyStream forgets what was kept of a file that went to a pipe whole and is paid.
func (r *run) tidyStream(ctx context.Context) error {
	if r.p.Want.Stream == nil || r.p.isPart() {
		return nil
	}
	if r.j.rev > 0 {
		next := r.j.clone()
		next.Verified, next.Suspect, next.PartMtime = &content.Ranges{}, false, 0
		if err := r.b.save(ctx, r.j, next); err != nil {
			return err
		}
	}
	return content.RemovePart(r.p.Path, r.p.Manifest.Root)
}
