package main

import "strings"

// What is bad for a value of a kind, whatever flag has it.
func (w *world) kinds() map[string][]string {
	long := strings.Repeat("9", 400)
	read := []string{w.path("missing"), w.path("empty"), w.path("garbage"), w.path("folder"), w.path("empty") + "/below"}
	return map[string][]string{
		"amount": {"x", "1", "-1sat", "1.5sat", "1msat", "1e3sat", "0.000000001btc", "21000001btc", "1 sat sat", "1SAT", long + "sat", "1sat\x00"},
		"msat":   {"x", "1", "-1sat", "0sat", "0.5msat", "1e3sat", "21000001btc", "1SAT", long + "sat"},
		"price":  {"x", "1", "1sat", "1sat/", "/MiB", "-1sat/MiB", "0sat/MiB", "1sat/0", "1usd/MiB", "1sat/folder", long + "sat/MiB"},
		"size":   {"x", "-1", "1.5", "0", "1XB", "1mib", "9007199254740992", long}, "room": {"x", "-1", "1.5", "1XB", "1mib", "9007199254740992", long},
		"listen":     {"x", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:http4", "0.0.0.0:4402", ":4402", "example.org:4402", "[::1", "[::]:1", "1.2.3.4:5:6"},
		"read":       read,
		"passphrase": append(read[:len(read):len(read)], w.path("lines")),
		"token":      read, "prices": {read[0], read[2], read[3], read[4]}, "open": {"x", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:-1", "[::1", "1.2.3.4:5:6"},
		"write":    {w.path("folder"), w.path("empty") + "/below", w.path("missing") + "/below"},
		"folder":   {w.path("garbage"), w.path("empty") + "/below"},
		"network":  {"x", "Regtest", "main", "testnet", "testnet3", "regtest ", long},
		"chain":    {"x", "127.0.0.1:3002", "ftp://h", "http://", "http://u:p@h", "http://h:99999", "http://h?x=1", "bitcoind://", "bitcoind://u:p@h", "bitcoind://h?colour=red", "bitcoind://h:x", "btcd://h", "btcd://u@h", "btcd://u:p@h", "neutrino://", "neutrino://h:x", "neutrino://u@h", "file:///etc/passwd", long},
		"channel":  {"x", "Taproot", "lightning", "multisig-p2wsh", long},
		"root":     {"x", "00", strings.Repeat("1", 63), strings.Repeat("0", 65), strings.Repeat("Z", 64), strings.Repeat("AB", 32), "0x" + strings.Repeat("00", 32)},
		"day":      {"x", "yesterday", "2026-13-01", "2026-02-30", "21.11.2026", "2026-11-21T00:00:00Z", "20261121"},
		"by":       {"x", "hour", "Day", "day,file"},
		"rate":     {"x", "0", "-1", "1e3", "0.0001", "1.", ".5", "1,5", "99999999999", "12 sat/vB", "Inf", "100000000"},
		"scenario": {"x", "List", long},
		"id":       {"x", "0", strings.Repeat("1", 64), strings.Repeat("0", 64) + ":0", "../..", long},
		"url":      {"x", "ftp://h", "http://", "http://u:p@h", "h:1", "http://h:x"},
		"name":     {"A", "a b", "../a", strings.Repeat("a", 65), "ü", "a\x00"},
		"upstream": {"x", "ftp://h", "http://", "http://u:p@h", "h:1", "http://h:x", "http://h/?q=1", "http://h/#f", "unix:///s"},
		"host":     {"x y", "h:443", "h/p", "127.0.0.1", "[::1]", "u@h", "https://h"},
		"allow":    {"=1sat", "h=", "h=x", "h=1", "h=0sat", "h=1.5sat", "h=-1sat", "h/p", "[", "h=" + long + "sat"},
		"user":     {"nobody-of-this-name", "-1", "a b", long},
		"challenge": {"x", "Payment", `Payment id="a"`, `Basic realm="r"`, `Payment id="a", realm="r", method="tempo", intent="charge", request="e30"`,
			`Payment request="!", id="a", realm="r", method="bitcoin", intent="session"`, `Payment id="a", realm="r", method="bitcoin", intent="session", request="e30"`, strings.Repeat("A", 70_000)},
		"receipt":  {"x", "e30", "bnVsbA", strings.Repeat("A", 70_000)},
		"realm":    {"a b", "a/b", "a|b", "a\"b", "ü", strings.Repeat("a", 254)},
		"purse":    {"x", "bitcoind", "bitcoind:", "electrum", "Builtin", long},
		"address":  {"x", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc", receiver[:40], long},
		"settings": {read[0], read[2], read[3], read[4]}, "level": {"x", "Info", "warning", "trace", "0", long}, "form": {"x", "JSON", "logfmt", long},
		"none": {}, // every text is good
	}
}

// kindOf is the kind of a flag's values, by its name or by that of its command and it.
// A new flag with a text for its value gets a row here.
var kindOf = map[string]string{
	"data": "folder", "network": "network", "chain": "chain", "passphrase-file": "passphrase", "cpuprofile": "write",
	"budget": "amount", "max-prepay": "amount", "capacity": "amount", "wallet address amount": "amount", "channels payback amount": "msat",
	"price": "price", "chunk": "size", "listen": "listen", "devnet listen": "open", "tls-cert": "read", "tls-key": "read", "prices": "prices",
	"config": "settings", "log-level": "level", "log-format": "form", "admin-listen": "listen", "metrics-listen": "open", "admin-token-file": "token",
	"tower": "url", "tower-token-file": "token", "add-provider": "name",
	"get output": "none", "channels export output": "write", "channel": "channel", "root": "root", "exports": "folder", "get trade": "id",
	"upstream": "upstream", "upstream-ca": "read", "acme": "host", "acme-email": "none", "acme-directory": "url", "max-body": "size", "max-cache": "room",
	"allow": "allow", "max-deposit": "amount", "token-file": "read", "user": "user", "mitm-ca": "folder",
	"challenge": "challenge", "receipt": "receipt", "credential url": "url", "credential key": "none", "avoid": "id", "max": "amount", "total": "amount",
	"deposit": "amount", "require": "amount", "realm": "realm", "dearest": "msat",
	"wallet": "purse", "refund-to": "address", "max-capacity": "amount", "doctor url": "url",
	"by": "by", "since": "day", "key": "none", "fee-rate": "rate", "max-fee": "amount", "scenario": "scenario", "dir": "folder",
}

// outside are numbers of a flag that its type allows and its sense does not.
var outside = map[string][]string{
	"blocks": {"0", "-1", "1009"}, "demo chunks": {"0"}, "max-channels": {"0", "-1"}, "max-bytes": {"0", "-1"}, "tower-max-rate": {"0", "-1", "9223372036854775807"},
	"free-per-day": {"-1"}, "max-duration": {"1", "100", "52561", "4294967296"}, "doctor timeout": {"0s", "2h"},
	"seconds": {"0", "3601"}, "rounds": {"0", "-1", "1001"}, "chunks": {"18446744073709551615"}, "credit": {"18446744073709551615"},
}

// values are what is bad for a flag of a command beside what its type excludes.
func (w *world) values(command, name string) (list []string, known bool) {
	kind, known := kindOf[command+" "+name]
	if !known {
		kind, known = kindOf[name]
	}
	if numbers, ok := outside[command+" "+name]; ok {
		list = append(list, numbers...)
	} else {
		list = append(list, outside[name]...)
	}
	return append(list, w.kinds()[kind]...), known
}
