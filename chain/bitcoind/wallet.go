package bitcoind

import (
	"context"
	"net/url"
	"strings"
)

// Wallet asks a wallet of the node, which Spillway itself never makes and never needs:
// for those who keep their coins there and fund channels from it. See wallet/node.
type Wallet struct{ rpc *rpc }

// Wallet names a wallet of this node; "" is the only one that is loaded. Nothing is
// asked yet. It is closed with the client.
func (c *Client) Wallet(name string) *Wallet {
	at := c.shared()
	if name != "" {
		at.url = strings.TrimSuffix(at.url, "/") + "/wallet/" + url.PathEscape(name)
	}
	return &Wallet{rpc: at}
}

// shared is a caller of its own with the same credentials and connections.
func (c *Client) shared() *rpc {
	c.rpc.mu.Lock()
	defer c.rpc.mu.Unlock()
	return &rpc{url: c.rpc.url, name: c.rpc.name, cookie: c.rpc.cookie, timeout: c.rpc.timeout, http: c.rpc.http, user: c.rpc.user, pass: c.rpc.pass}
}

// Call asks one thing of the wallet and decodes the answer into what into points to, if
// anything. Errors: chain.ErrUnavailable; what the node refuses has a method RPCCode with
// the node's code.
func (w *Wallet) Call(ctx context.Context, into any, method string, params ...any) error {
	return w.rpc.call(ctx, into, method, params...)
}

// RPCCode is the node's code of a refusal.
func (e *refusal) RPCCode() int { return e.Code }
