package main

import (
	"os"
	"strings"

	"golang.org/x/term"
	"rsc.io/qr"
)

// quiet is the white border that a QR code needs, in modules (ISO/IEC 18004).
const quietZone = 4

// qrText draws a text as a QR code with half blocks, two rows of modules a line,
// dark modules on light: what a phone reads from a terminal of either colour.
// Errors: a text that fits no code.
func qrText(text string) (string, error) { return qrTextAt(text, qr.M) }

// qrTextAt is qrText with so much of the code spent on mending errors.
func qrTextAt(text string, level qr.Level) (string, error) {
	code, err := qr.Encode(text, level)
	if err != nil {
		return "", err
	}
	dark := func(x, y int) bool { // beyond the code Black is false
		return code.Black(x-quietZone, y-quietZone)
	}
	var b strings.Builder
	for y := 0; y < code.Size+2*quietZone; y += 2 {
		for x := range code.Size + 2*quietZone {
			b.WriteString(halfBlock(dark(x, y), dark(x, y+1)))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// halfBlock is one character for two modules, where ink is light.
func halfBlock(upperDark, lowerDark bool) string {
	switch {
	case upperDark && lowerDark:
		return " "
	case upperDark:
		return "▄"
	case lowerDark:
		return "▀"
	default:
		return "█"
	}
}

// colours that do not depend on the terminal's own: white ink on black ground
const (
	whiteOnBlack = "\x1b[38;5;231;48;5;16m"
	plain        = "\x1b[0m"
)

// showQR draws an address for a phone, on a terminal or where it was asked for.
func (a *app) showQR(uri string, always bool) error {
	if a.out.json || !always && !a.stdoutIsTerminal() {
		return nil
	}
	text, err := qrText(uri)
	if err != nil {
		return err
	}
	a.printQR(text)
	return nil
}

// printQR prints a drawn code in colours of its own.
func (a *app) printQR(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if a.out.color {
			line = whiteOnBlack + line + plain
		}
		a.out.print("%s", line)
	}
}

func (a *app) stdoutIsTerminal() bool {
	f, ok := a.out.stdout.(*os.File)
	return ok && !a.out.quiet && term.IsTerminal(int(f.Fd()))
}
