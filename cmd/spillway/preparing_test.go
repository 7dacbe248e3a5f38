package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
)

// TestGetWaitsForWhatIsPrepared: a provider that asks to come again is waited for without
// --wait, and told of; one that does not answer only with it.
func TestGetWaitsForWhatIsPrepared(t *testing.T) {
	var said bytes.Buffer
	a := &app{out: &output{stdout: &said, stderr: &said}}
	busy := &paywall.BusyError{Status: 503, RetryAfter: time.Millisecond, Problem: &mpp.Problem{Detail: "this file is being prepared"}}
	tries := 0
	ask := func(fail error, times int) func() error {
		tries = 0
		return func() error {
			if tries++; tries <= times {
				return fail
			}
			return nil
		}
	}
	if err := a.patient(context.Background(), getFlags{wait: time.Hour}, newMeter(a.out, 0, 0), ask(busy, 2)); err != nil || tries != 3 {
		t.Errorf("%d tries: %v", tries, err)
	}
	if !strings.Contains(said.String(), "asks for patience: this file is being prepared; trying again in") {
		t.Errorf("%q", said.String())
	}
	err := a.patient(context.Background(), getFlags{}, newMeter(a.out, 0, 0), ask(busy, 2))
	if f := explain(err); tries != 1 || f.exit != exitUnreachable || !strings.Contains(f.message, "being prepared") {
		t.Errorf("with --wait 0: %d tries, %+v", tries, f)
	}
	if err := a.patient(context.Background(), getFlags{wait: time.Hour}, newMeter(a.out, 0, 0), ask(paywall.ErrUnreachable, 1)); tries != 1 || !errors.Is(err, paywall.ErrUnreachable) {
		t.Errorf("nobody there: %d tries, %v", tries, err)
	}
}

// TestFolderThatIsNotAllThere: a folder is not bought in part because the provider is
// still reading it; ls names what is missing.
func TestFolderThatIsNotAllThere(t *testing.T) {
	answer := `{"provider":"ab","files":[],"complete":true,"preparing":[{"name":"late.bin","size":7},{"name":"../evil","size":7}]}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
	defer s.Close()
	client, err := paywall.NewClient(paywall.ClientConfig{Network: "regtest", Payer: &payer.Payer{}})
	if err != nil {
		t.Fatal(err)
	}
	b := &buyer{client: client}
	_, err = b.folder(t.Context(), download.Want{URL: s.URL + "/"})
	if !errors.Is(err, paywall.ErrBusy) || !strings.Contains(err.Error(), "2 files of it are being prepared; nothing was paid") {
		t.Errorf("%v", err)
	}
	var said bytes.Buffer
	a := &app{out: &output{stdout: &said, stderr: &said}}
	list, err := look(t.Context(), s.URL+"/", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.printList(list); err != nil || !strings.Contains(said.String(), "late.bin  being prepared") || strings.Contains(said.String(), "evil") || !strings.Contains(said.String(), "more may come") {
		t.Errorf("%v\n%s", err, said.String())
	}
	answer = `{"provider":"ab","files":[],"complete":false}`
	if _, err = b.folder(t.Context(), download.Want{URL: s.URL + "/"}); !errors.Is(err, paywall.ErrBusy) {
		t.Errorf("%v", err)
	}
}
