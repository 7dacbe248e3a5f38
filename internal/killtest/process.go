//go:build linux && amd64

package killtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// line is one JSON line of a command's output.
type line map[string]any

// text is a field as text, "" where it is missing.
func (l line) text(name string) string {
	s, _ := l[name].(string)
	return s
}

// process is a spillway that runs under the trace.
type process struct {
	trace *trace
	os    *os.Process
	ended chan struct{} // closed when it has ended and its output is read

	mu     sync.Mutex
	lines  []line
	more   chan struct{} // closed and made anew with every line
	stderr bytes.Buffer
	end    syscall.WaitStatus
	err    error // of the trace
}

// spawn starts a program. Where filter is false it runs without stops, and only
// its life hangs on this process's.
func spawn(t *trace, argv, env []string, filter bool) (*process, error) {
	p := &process{trace: t, ended: make(chan struct{}), more: make(chan struct{})}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, outR.Close(), outW.Close())
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, errors.Join(err, outR.Close(), outW.Close(), errR.Close(), errW.Close())
	}
	attr := &os.ProcAttr{Env: env, Files: []*os.File{null, outW, errW}}
	begun, traced := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(traced)
		p.end, p.err = t.run(argv, attr, filter, func(proc *os.Process, err error) {
			p.os = proc
			begun <- err
		})
	}()
	err = errors.Join(<-begun, null.Close(), outW.Close(), errW.Close())
	var read sync.WaitGroup
	read.Go(func() { p.readLines(outR) })
	read.Go(func() { p.readText(errR) })
	go func() {
		<-traced
		read.Wait()
		close(p.ended)
	}()
	if err != nil {
		<-p.ended
	}
	return p, err
}

func (p *process) readLines(r *os.File) {
	defer r.Close()
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 16<<20)
	for scan.Scan() {
		var l line
		d := json.NewDecoder(bytes.NewReader(scan.Bytes()))
		d.UseNumber()
		if d.Decode(&l) != nil {
			continue // cut by the kill
		}
		p.mu.Lock()
		p.lines = append(p.lines, l)
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

func (p *process) readText(r *os.File) {
	defer r.Close()
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		p.mu.Lock()
		if p.stderr.Len() < 1<<20 {
			p.stderr.Write(buf[:n])
		}
		p.mu.Unlock()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.mu.Lock()
				p.err = errors.Join(p.err, err)
				p.mu.Unlock()
			}
			return
		}
	}
}

// last is the newest line, nil where there is none.
func (p *process) last() line {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) == 0 {
		return nil
	}
	return p.lines[len(p.lines)-1]
}

// errEnded: the process ended before it said what was waited for.
var errEnded = errors.New("the process ended before")

// await waits for a line of a type.
func (p *process) await(ctx context.Context, typ string) (line, error) {
	for at := 0; ; {
		p.mu.Lock()
		for ; at < len(p.lines); at++ {
			if p.lines[at].text("type") == typ {
				l := p.lines[at]
				p.mu.Unlock()
				return l, nil
			}
		}
		more := p.more
		p.mu.Unlock()
		select {
		case <-more:
			continue
		default:
		}
		select {
		case <-more:
		case <-p.ended:
			p.mu.Lock()
			done := at >= len(p.lines)
			p.mu.Unlock()
			if done {
				return nil, fmt.Errorf("%q: %w", typ, errEnded)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%q: %w", typ, ctx.Err())
		}
	}
}

// signal sends a signal; to a process that has ended it is nothing.
func (p *process) signal(sig os.Signal) error {
	err := p.os.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// kill kills the process and waits for its end.
func (p *process) kill() error {
	err := p.signal(os.Kill)
	<-p.ended
	return err
}

// wait waits for the end; when the context is over before, the process is asked
// for its goroutines, and killed.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
	}
	err := p.signal(syscall.SIGQUIT)
	select {
	case <-p.ended:
	case <-after(quitGrace):
		err = errors.Join(err, p.kill())
	}
	return errors.Join(fmt.Errorf("it hangs: %w", ctx.Err()), err)
}

// alive reports whether the process has not ended.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// killed reports whether kill -9 ended it; code is its exit code otherwise.
func (p *process) killed() bool { return p.end.Signaled() && p.end.Signal() == syscall.SIGKILL }

func (p *process) code() int {
	if p.end.Signaled() {
		return 128 + int(p.end.Signal())
	}
	return p.end.ExitStatus()
}

// said is the newest of what the process wrote for people and scripts, for reports.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.stderr.String()
	if len(text) > 3000 {
		text = text[:1000] + "\n…\n" + text[len(text)-2000:]
	}
	if n := len(p.lines); n > 0 {
		raw, err := json.Marshal(p.lines[n-1])
		if err == nil {
			text += string(raw)
		}
	}
	return text
}

// fired reports whether the process's fault happened, and where.
func (p *process) fired() (at string, fired bool) {
	p.trace.mu.Lock()
	defer p.trace.mu.Unlock()
	return p.trace.at, p.trace.fired
}
