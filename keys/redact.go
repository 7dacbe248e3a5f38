package keys

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what a keyring shows of itself, whoever asks.
const redacted = "keys.Keyring(secret)"

// String implements fmt.Stringer.
func (k Keyring) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (k Keyring) GoString() string { return redacted }

// Format implements fmt.Formatter for every verb.
func (k Keyring) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// MarshalText implements encoding.TextMarshaler.
func (k Keyring) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements json.Marshaler.
func (k Keyring) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// LogValue implements slog.LogValuer.
func (k Keyring) LogValue() slog.Value { return slog.StringValue(redacted) }
