package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// cmdChallenge: challenge NAME URL keeps the challenge of an unpaid request in $NAME, and
// in a file of that name.
func cmdChallenge(ts *testscript.TestScript, _ bool, args []string) {
	resp, err := http.Get(args[1])
	ts.Check(err)
	ts.Check(resp.Body.Close())
	text := resp.Header.Get(mpp.HeaderChallenge)
	if resp.StatusCode != http.StatusPaymentRequired || text == "" {
		ts.Fatalf("%s: %s", args[1], resp.Status)
	}
	ts.Setenv(args[0], text)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text+"\n"), 0o600))
}

// cmdPaid: paid URL CREDENTIAL FILE STATUS asks with a credential and writes the body to a
// file; what the receipt says is the standard output, as JSON, and the receipt $RECEIPT.
func cmdPaid(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest(http.MethodGet, args[0], nil)
	ts.Check(err)
	req.Header.Set(mpp.HeaderCredential, args[1])
	client := &http.Client{Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if strconv.Itoa(resp.StatusCode) != args[3] {
		ts.Fatalf("%s: %s", resp.Status, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), body, 0o644))
	got, err := bitcoin.ParseReceipt(resp.Header.Values(mpp.HeaderReceipt))
	ts.Check(err)
	ts.Setenv("RECEIPT", resp.Header.Get(mpp.HeaderReceipt))
	raw, err := json.Marshal(map[string]any{"channel_id": got.ChannelID, "charged_msat": got.ChargedMsat, "accepted_sat": got.AcceptedCumulative})
	ts.Check(err)
	_, err = ts.Stdout().Write(append(raw, '\n'))
	ts.Check(err)
}
