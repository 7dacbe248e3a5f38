package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Company says how a story's actors are started, each as a process of its own.
type Company struct {
	// Path is the program, Args its arguments (the first one is its name): together a
	// command that does nothing but Act on its standard input and output.
	Path string
	Args []string
	Env  []string // nil: this process's
	// Dir is where the actors' folders are made; "": the system's place for temporary
	// files. They are removed at the end.
	Dir string
	// Bitcoind is the path of a bitcoind that is the chain; "": the embedded node.
	Bitcoind string
}

// Bounds of waiting. Nothing takes as long unless it hangs.
const (
	orderLimit = 60 * time.Second
	deathLimit = 10 * time.Second
)

// process is an actor in a process of its own.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	encode *json.Encoder
	decode *json.Decoder
	now    func() time.Time
	url    string
	ended  chan struct{} // closed when end is there
	end    error         // what Wait said
}

// start starts an actor's process, and has it take up its part.
func (c Company) start(ctx context.Context, p part, now func() time.Time) (_ *process, err error) {
	cmd := exec.Command(c.Path)
	cmd.Args, cmd.Env, cmd.Stderr = c.Args, c.Env, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the %s's process: %w", p.Role, err)
	}
	x := &process{cmd: cmd, in: in, encode: json.NewEncoder(in), decode: json.NewDecoder(out), now: now, ended: make(chan struct{})}
	go func() {
		x.end = cmd.Wait()
		close(x.ended)
	}()
	r, err := x.tell(ctx, message{Part: &p})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the %s's process: %w", p.Role, err), x.kill())
	}
	x.url = r.URL
	return x, nil
}

// tell sends a message and waits for its reply.
func (x *process) tell(ctx context.Context, m message) (reply, error) {
	type outcome struct {
		reply
		err error
	}
	m.Now = x.now().Unix()
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		if o.err = x.encode.Encode(m); o.err == nil {
			o.err = x.decode.Decode(&o.reply)
		}
		done <- o
	}()
	limit := time.NewTimer(orderLimit)
	defer limit.Stop()
	select {
	case o := <-done:
		if o.err != nil {
			return reply{}, errors.Join(x.death(), o.err)
		}
		if o.Fault != nil {
			return reply{}, o.Fault
		}
		return o.reply, nil
	case <-ctx.Done():
		return reply{}, errors.Join(ctx.Err(), x.kill())
	case <-limit.C:
		return reply{}, errors.Join(fmt.Errorf("%q takes longer than %s", m.Do, orderLimit), x.kill())
	}
}

// order implements actor.
func (x *process) order(ctx context.Context, do string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	r, err := x.tell(ctx, message{Do: do, Args: raw})
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(r.Result, result)
}

// death waits for the end of a process: errDead where kill -9 ended it.
func (x *process) death() error {
	limit := time.NewTimer(deathLimit)
	defer limit.Stop()
	select {
	case <-x.ended:
	case <-limit.C:
		return errors.New("the process does not end")
	}
	var exit *exec.ExitError
	if errors.As(x.end, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return errDead
		}
	}
	return errors.Join(errors.New("the process ended by itself"), x.end)
}

// died implements actor.
func (x *process) died() bool { return errors.Is(x.death(), errDead) }

// kill implements actor: kill -9, also to one that is dead already.
func (x *process) kill() error {
	if err := x.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := x.death(); !errors.Is(err, errDead) {
		return err
	}
	if err := x.in.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// pid implements actor.
func (x *process) pid() int { return x.cmd.Process.Pid }
