package scenario

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/programs"
)

// core is a bitcoind of the story's own, on regtest, with the rules by which the
// field relays, without peers and without a wallet. The kernel ends it with the
// process that started it.
type core struct {
	path, dir string
	port      int
	now       func() time.Time
	client    http.Client
	user      string
	pass      string
	kill      func() // kills it and waits
	wait      func() // waits until it has ended by itself
}

// coreError is an error that the node answered with.
type coreError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error implements error.
func (e *coreError) Error() string { return fmt.Sprintf("bitcoind: %s (%d)", e.Message, e.Code) }

// Bounds of waiting for a node.
const (
	coreStart = 60 * time.Second
	coreLook  = 20 * time.Millisecond
)

// startCore starts a bitcoind in a folder.
func startCore(path, dir string, now func() time.Time) (*core, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &core{path: path, dir: dir, port: l.Addr().(*net.TCPAddr).Port, now: now, client: http.Client{Timeout: orderLimit}}
	if err := errors.Join(l.Close(), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	return c, c.launch()
}

func (c *core) cookie() string { return filepath.Join(c.dir, "regtest", ".cookie") }
func (c *core) url() string    { return "http://127.0.0.1:" + strconv.Itoa(c.port) }

// launch starts the program and waits until it answers.
func (c *core) launch() error {
	if err := os.Remove(c.cookie()); err != nil && !os.IsNotExist(err) { // that of an earlier life
		return err
	}
	cmd := exec.Command(c.path, "-regtest", "-corepolicy=1", "-acceptnonstdtxn=0", "-server=1", "-txindex=1", "-listen=0", "-connect=0",
		"-dnsseed=0", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", "-rpcport="+strconv.Itoa(c.port), "-disablewallet=1", "-persistmempool=0",
		"-datadir="+c.dir, "-mocktime="+strconv.FormatInt(c.now().Unix(), 10))
	exited, err := programs.Start(cmd)
	if err != nil {
		return err
	}
	c.kill = func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-exited
	}
	c.wait = func() { <-exited }
	if err := c.await(exited); err != nil {
		c.kill()
		return err
	}
	return nil
}

func (c *core) await(exited <-chan error) error {
	limit := time.NewTimer(coreStart)
	defer limit.Stop()
	tick := time.NewTicker(coreLook)
	defer tick.Stop()
	for {
		raw, err := os.ReadFile(c.cookie())
		if err == nil {
			c.user, c.pass, _ = strings.Cut(string(raw), ":")
			if err = c.rpc(nil, "getblockcount"); err == nil {
				return nil
			}
		}
		select {
		case <-tick.C:
		case exit := <-exited:
			return fmt.Errorf("bitcoind ended: %w", errors.Join(exit, err))
		case <-limit.C:
			return fmt.Errorf("bitcoind does not answer within %s: %w", coreStart, err)
		}
	}
}

// restart ends the node in an orderly way and starts it again: with an empty mempool.
func (c *core) restart() error {
	if err := c.rpc(nil, "stop"); err != nil {
		return err
	}
	c.wait()
	return c.launch()
}

// rpc calls a method. Errors: *coreError, those of the transport.
func (c *core) rpc(into any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	resp, err := c.post(context.Background(), body)
	if err != nil {
		return err
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *coreError      `json:"error"`
	}
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&answer), resp.Body.Close()); err != nil {
		return fmt.Errorf("%s: %s: %w", method, resp.Status, err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, into)
}

func (c *core) post(ctx context.Context, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(c.user, c.pass)
	return c.client.Do(req)
}

// mine mines blocks with what waits, at the story's time.
func (c *core) mine(blocks int, pkScript []byte) (hashes []string, err error) {
	if err := c.rpc(nil, "setmocktime", c.now().Unix()); err != nil {
		return nil, err
	}
	return hashes, c.rpc(&hashes, "generatetodescriptor", blocks, "raw("+hex.EncodeToString(pkScript)+")")
}

// block mines one with exactly these transactions.
func (c *core) block(pkScript []byte, txs []string) error {
	if err := c.rpc(nil, "setmocktime", c.now().Unix()); err != nil {
		return err
	}
	return c.rpc(nil, "generateblock", "raw("+hex.EncodeToString(pkScript)+")", txs)
}

// reorg undoes blocks for a branch that is one longer and holds nothing; drop is
// remembered by no node, all else returns to the mempool.
func (c *core) reorg(depth int, drop chainhash.Hash, fresh func() []byte) error {
	var height int
	if err := c.rpc(&height, "getblockcount"); err != nil {
		return err
	}
	back, err := c.undone(height-depth+1, height)
	if err != nil {
		return err
	}
	var first string
	if err := c.rpc(&first, "getblockhash", height-depth+1); err != nil {
		return err
	}
	if err := c.rpc(nil, "invalidateblock", first); err != nil {
		return err
	}
	if err := c.restart(); err != nil { // nothing else empties a mempool
		return err
	}
	for range depth + 1 {
		if err := c.block(fresh(), []string{}); err != nil {
			return err
		}
	}
	for progress := true; progress; { // parents come before children, whatever the order
		progress = false
		back = slices.DeleteFunc(back, func(raw string) bool {
			tx, err := decodeHex(raw)
			gone := err != nil || tx.TxHash() == drop || c.rpc(nil, "sendrawtransaction", raw) == nil
			progress = progress || gone
			return gone
		})
	}
	return nil
}

// undone are the transactions of blocks and of the mempool, without block rewards.
func (c *core) undone(from, to int) (all []string, err error) {
	for h := from; h <= to; h++ {
		var hash string
		if err := c.rpc(&hash, "getblockhash", h); err != nil {
			return nil, err
		}
		var b struct {
			Tx []struct{ Hex string }
		}
		if err := c.rpc(&b, "getblock", hash, 2); err != nil {
			return nil, err
		}
		for _, tx := range b.Tx[1:] {
			all = append(all, tx.Hex)
		}
	}
	var ids []string
	if err := c.rpc(&ids, "getrawmempool"); err != nil {
		return nil, err
	}
	for _, id := range ids {
		var raw string
		if err := c.rpc(&raw, "getrawtransaction", id); err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}

func decodeHex(raw string) (*wire.MsgTx, error) {
	tx := wire.NewMsgTx(0)
	return tx, tx.Deserialize(hex.NewDecoder(strings.NewReader(raw)))
}
