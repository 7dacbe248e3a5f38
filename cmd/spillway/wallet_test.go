package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"rsc.io/qr"

	"github.com/spillway/spillway/script"
)

// What is drawn is the code, module for module, with a white border of four.
func TestQRText(t *testing.T) {
	uri := "bitcoin:bcrt1p8wpt9v4frpf3tkn0srd97pksgsxc5hs52lafxwru9kgeephvs7rqlqt9zj?amount=1.00000000"
	text, err := qrText(uri)
	if err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(uri, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if want := (code.Size + 2*quietZone + 1) / 2; len(lines) != want {
		t.Fatalf("%d lines, want %d", len(lines), want)
	}
	ink := map[rune][2]bool{'█': {false, false}, ' ': {true, true}, '▀': {false, true}, '▄': {true, false}}
	for i, line := range lines {
		row := []rune(line)
		if len(row) != code.Size+2*quietZone {
			t.Fatalf("line %d has %d modules", i, len(row))
		}
		for x, r := range row {
			for half, dark := range ink[r] {
				if y := 2*i + half; dark != code.Black(x-quietZone, y-quietZone) {
					t.Fatalf("module %d, %d is drawn as %q", x, y, r)
				}
			}
		}
	}
}

// Fee rates are read without a float: exact, or refused.
func TestParseFeeRate(t *testing.T) {
	for text, want := range map[string]script.FeeRate{
		"1": 1000, "12": 12000, "1.5": 1500, "0.125": 125, "2.05": 2050, "7sat/vB": 7000, "0.001": 1,
	} {
		if got, err := parseFeeRate(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "0.0", "-1", "+1", "1.", ".5", "1.2345", "1e3", "1.-5", "1.+5", "NaN", "99999999999999999999", "1 2"} {
		if got, err := parseFeeRate(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		} else if explain(err).exit != exitUsage {
			t.Errorf("%q: exit %d", text, explain(err).exit)
		}
	}
}

// Three of the words have to be typed as they were shown, each within three tries;
// nobody who can't gets a wallet.
func TestConfirmWords(t *testing.T) {
	words := strings.Fields("legal winner thank year wave sausage worth useful legal winner thank yellow")
	asked := map[int]bool{}
	err := confirmWords(words, func(n int) (string, error) {
		asked[n] = true
		return " " + strings.ToUpper(words[n-1]) + "\n", nil
	})
	if err != nil || len(asked) != askedWords {
		t.Fatalf("%d asked: %v", len(asked), err)
	}
	tries := 0
	err = confirmWords(words, func(n int) (string, error) { tries++; return "wrong", nil })
	var f *failure
	if !errors.As(err, &f) || f.exit != exitConsent || tries != askAttempts {
		t.Fatalf("%d tries: %v", tries, err)
	}
	if err := confirmWords(words, func(int) (string, error) { return "", io.EOF }); err == nil {
		t.Fatal("no answer was taken for the words")
	}
	second := 0
	err = confirmWords(words, func(n int) (string, error) {
		if second++; second == 1 {
			return "misspelt", nil
		}
		return fmt.Sprintln(words[n-1]), nil
	})
	if err != nil {
		t.Fatalf("a second try is not allowed: %v", err)
	}
}
