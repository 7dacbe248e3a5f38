package mpp

import "fmt"

// ReceiptSuccess is the only status that a receipt has: failures are problems.
const ReceiptSuccess = "success"

// MaxReceipt bounds a Payment-Receipt value, in bytes.
const MaxReceipt = 16 << 10

// EncodeReceipt is the value of Payment-Receipt: JCS in base64url. The receipt
// must have the scheme's fields (method, reference, status "success", timestamp);
// a method adds its own. Receipts go with 2xx answers only.
// Errors: ErrMalformed, those of JCS. draft-httpauth-payment-02 section 5.3.
func EncodeReceipt(receipt any) (string, error) {
	b, err := JCS(receipt)
	if err != nil {
		return "", err
	}
	obj, err := ParseObject(b)
	if err != nil {
		return "", err
	}
	if err := checkReceipt(obj); err != nil {
		return "", err
	}
	return EncodeBase64(b), nil
}

// ParseReceipt decodes the one value of Payment-Receipt and checks the scheme's
// fields. Errors: ErrMalformed (also where there is none), ErrRepeated,
// ErrTooLarge. draft-httpauth-payment-02 section 5.3.
func ParseReceipt(headerValues []string) (map[string]any, error) {
	if err := checkSize(headerValues, MaxReceipt); err != nil {
		return nil, err
	}
	switch len(headerValues) {
	case 0:
		return nil, malformed("no receipt")
	case 1:
	default:
		return nil, fmt.Errorf("receipt: %w", ErrRepeated)
	}
	obj, err := DecodeJSON(headerValues[0])
	if err != nil {
		return nil, fmt.Errorf("%w: receipt: %w", ErrMalformed, err)
	}
	if err := checkReceipt(obj); err != nil {
		return nil, err
	}
	return obj, nil
}

func checkReceipt(obj map[string]any) error {
	for _, name := range []string{"method", "reference", "status", "timestamp"} {
		if text, ok := obj[name].(string); !ok || text == "" {
			return malformed("receipt: %s is not a string", name)
		}
	}
	if obj["status"] != ReceiptSuccess {
		return malformed("receipt: status %.40q", obj["status"])
	}
	if _, err := parseTime(obj["timestamp"].(string)); err != nil {
		return malformed("receipt: timestamp %.40q is no RFC 3339 time", obj["timestamp"])
	}
	return nil
}
