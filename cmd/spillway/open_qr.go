package main

import (
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"rsc.io/qr"
)

// Bounds of QR codes that a terminal can show and a camera can read off it.
const (
	oneCode  = 640 // characters of base64 in a single code
	partSize = 425 // bytes of a PSBT in each of several codes; a multiple of five
)

// qrPSBT is what the QR codes of a PSBT hold: its base64 where one code is enough, else
// its parts in the form BBQr (base32, file type P), which wallets put together in any
// order.
func qrPSBT(raw []byte) []string {
	if text := base64.StdEncoding.EncodeToString(raw); len(text) <= oneCode {
		return []string{text}
	}
	total := (len(raw) + partSize - 1) / partSize
	parts := make([]string, total)
	for i := range parts {
		part := raw[i*partSize : min((i+1)*partSize, len(raw))]
		parts[i] = "B$2P" + base36(total) + base36(i) + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(part)
	}
	return parts
}

// base36 writes a number below 1,296 in two digits.
func base36(n int) string {
	text := "0" + strings.ToUpper(strconv.FormatInt(int64(n), 36))
	return text[len(text)-2:]
}

// maxParts is how many parts a PSBT in QR codes may have: two digits of base 36, 1 to 1295.
const maxParts = 1295

// showPSBT draws a PSBT for a wallet with a camera, where that is asked for.
func (a *app) showPSBT(raw []byte, asked bool) error {
	if !asked || a.out.json {
		return nil
	}
	codes := qrPSBT(raw)
	if len(codes) > maxParts {
		return usagef("this PSBT is too large for QR codes: pass it as a file")
	}
	for i, text := range codes {
		if len(codes) > 1 {
			a.out.print("code %d of %d", i+1, len(codes))
		}
		drawn, err := qrTextAt(text, qr.L)
		if err != nil {
			return fmt.Errorf("QR code %d: %w", i+1, err)
		}
		a.printQR(drawn)
	}
	return nil
}
