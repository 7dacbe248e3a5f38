// Package btcdtest runs a real btcd on regtest for tests, as a process of its own with its RPC (over TLS) and its P2P
// port on loopback and committed filters on. It builds the program from go.mod's version where it is missing and
// fails where it cannot; it never skips. It mines by itself, so that blocks hold what a test wants. It is for tests
// only and connects to no other node.
package btcdtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/programs"
)

// Limits of the wait for a node and for one call.
const (
	startLimit = 60 * time.Second
	rpcLimit   = 60 * time.Second
)

// Credentials of every node's RPC.
const (
	User     = "spillway"
	Password = "a password of the tests"
)

// Node is a running btcd of one test. Its calls are not safe for concurrent use, except RPC.
type Node struct {
	t      testing.TB
	path   string
	dir    string
	args   []string
	rpc    string // host and port
	p2p    string
	client http.Client
	kill   func() // kills it and waits
	wait   func() // waits until it has ended by itself

	key     *btcec.PrivateKey
	script  []byte
	headers []wire.BlockHeader // of the best chain, by height
	raw     []string           // its blocks in hex, without the genesis block
	coins   []coin
	branch  uint32 // makes every block another one
}

// Error is an error that the node answered with.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error is the node's message with its code.
func (e *Error) Error() string { return fmt.Sprintf("btcd: %s (%d)", e.Message, e.Code) }

// Start runs a btcd of its own in a folder of the test, with standard relay rules and no peers. It is killed when the
// test ends. Further arguments come last and win, such as --txindex.
func Start(t testing.TB, args ...string) *Node {
	t.Helper()
	path := program(t)
	var err error
	for range 3 { // a free port may be taken before btcd binds it
		var n *Node
		if n, err = start(t, path, args); err == nil {
			n.Mine(1) // a recent block, without which btcd takes itself for still catching up
			return n
		}
	}
	t.Fatalf("btcd does not start: %v", err)
	return nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func start(t testing.TB, path string, args []string) (*Node, error) {
	n := &Node{t: t, path: path, dir: t.TempDir()}
	var err error
	if n.rpc, err = freeAddress(); err != nil {
		return nil, err
	}
	if n.p2p, err = freeAddress(); err != nil {
		return nil, err
	}
	secret := [32]byte{31: 7}
	n.key, _ = btcec.PrivKeyFromBytes(secret[:])
	if n.script, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(n.key.PubKey())); err != nil {
		return nil, err
	}
	n.headers = []wire.BlockHeader{chaincfg.RegressionNetParams.GenesisBlock.Header}
	n.args = append([]string{"--configfile=" + os.DevNull, "--regtest", "--rejectnonstd", "--nodnsseed", "--nobanning", "--nostalldetect",
		"--datadir=" + filepath.Join(n.dir, "data"), "--logdir=" + filepath.Join(n.dir, "logs"),
		"--rpccert=" + n.CertFile(), "--rpckey=" + filepath.Join(n.dir, "rpc.key"), "--rpcmaxwebsockets=500", "--rpcmaxclients=100",
		"--rpcuser=" + User, "--rpcpass=" + Password, "--rpclisten=" + n.rpc, "--listen=" + n.p2p, "--debuglevel=warn"}, args...)
	if err := n.launch(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		n.kill()
		n.client.CloseIdleConnections()
	})
	return n, nil
}

// launch starts the program and waits until it answers.
func (n *Node) launch() error {
	cmd := exec.Command(n.path, n.args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	exited, err := programs.Start(cmd)
	if err != nil {
		return err
	}
	n.kill = func() {
		_ = cmd.Process.Kill() // it may have exited by itself
		<-exited
	}
	n.wait = func() { <-exited }
	if err := n.await(exited); err != nil {
		n.kill()
		return fmt.Errorf("%w\n%s", err, log.String())
	}
	return nil
}

// await reads the certificate and waits until the node answers.
func (n *Node) await(exited <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		cert, err := os.ReadFile(n.CertFile())
		if err == nil {
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(cert) {
				err = errors.New("its certificate is not whole yet")
			} else {
				n.client.CloseIdleConnections()
				n.client = http.Client{Timeout: rpcLimit, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
				var height int64
				if err = n.RPC(&height, "getblockcount"); err == nil {
					return nil
				}
			}
		}
		select {
		case <-tick.C:
		case exit := <-exited:
			return fmt.Errorf("it exited: %w", errors.Join(exit, err))
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s: %w", startLimit, err)
		}
	}
}

// Stop ends the node in an orderly way.
func (n *Node) Stop() {
	n.t.Helper()
	n.call(nil, "stop")
	n.wait()
}

// Kill ends the node as a power cut would.
func (n *Node) Kill() { n.kill() }

// Again starts a node that was stopped or killed, with the same folder and addresses, and gives it its blocks again:
// its mempool is then empty.
func (n *Node) Again() {
	n.t.Helper()
	if err := n.launch(); err != nil {
		n.t.Fatalf("btcd does not start again: %v", err)
	}
	n.submitAgain()
}

// Restart is Stop and Again.
func (n *Node) Restart() {
	n.t.Helper()
	n.Stop()
	n.Again()
}

// RPCAddress is the host and port of the RPC, which speaks TLS; P2PAddress that of the P2P.
func (n *Node) RPCAddress() string { return n.rpc }

// P2PAddress is the host and port at which the node takes peers.
func (n *Node) P2PAddress() string { return n.p2p }

// CertFile is the path of the certificate of the node's RPC.
func (n *Node) CertFile() string { return filepath.Join(n.dir, "rpc.cert") }

// PasswordFile writes the RPC's password to a file and gives its path.
func (n *Node) PasswordFile() string {
	n.t.Helper()
	path := filepath.Join(n.dir, "password")
	if err := os.WriteFile(path, []byte(Password+"\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// RPC calls a method and decodes its answer into result, unless that is nil. Errors: *Error for a refusal by the
// node, or those of the transport.
func (n *Node) RPC(result any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	var answer struct {
		Result json.RawMessage
		Error  *Error
	}
	if err := n.post(request{"1.0", 1, method, params}, &answer); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

type request struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  []any  `json:"params"`
}

// post sends a request, or several, and decodes what comes back.
func (n *Node) post(ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, "https://"+n.rpc, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(User, Password)
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(answer), resp.Body.Close()); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	return nil
}

// call is RPC where a refusal ends the test.
func (n *Node) call(result any, method string, params ...any) {
	n.t.Helper()
	if err := n.RPC(result, method, params...); err != nil {
		n.t.Fatalf("%s: %v", method, err)
	}
}

// Height is the tip's height, as the node says.
func (n *Node) Height() int64 {
	n.t.Helper()
	var height int64
	n.call(&height, "getblockcount")
	return height
}

// Peers is how many peers are connected.
func (n *Node) Peers() int {
	n.t.Helper()
	var count int
	n.call(&count, "getconnectioncount")
	return count
}

// sign completes a transaction that spends the node's coins alone.
func (n *Node) sign(tx *wire.MsgTx, values ...int64) {
	n.t.Helper()
	prevouts := txscript.NewMultiPrevOutFetcher(nil)
	for i, in := range tx.TxIn {
		prevouts.AddPrevOut(in.PreviousOutPoint, wire.NewTxOut(values[i], n.script))
	}
	hashes := txscript.NewTxSigHashes(tx, prevouts)
	for i, in := range tx.TxIn {
		w, err := txscript.TaprootWitnessSignature(tx, hashes, i, values[i], n.script, txscript.SigHashDefault, n.key)
		if err != nil {
			n.t.Fatal(err)
		}
		if len(w) != 1 || len(w[0]) != schnorr.SignatureSize {
			n.t.Fatalf("a signature of %s bytes", strconv.Itoa(len(w[0])))
		}
		in.Witness = w
	}
}

// TipHash is the hash of the newest block, as it was mined.
func (n *Node) TipHash() chainhash.Hash { return n.headers[len(n.headers)-1].BlockHash() }
