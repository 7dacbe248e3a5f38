package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/chain/btcd"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/chain/neutrino"
	"github.com/spillway/spillway/chain/several"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/sqlite"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/wallet/node"
	"github.com/spillway/spillway/wallet/psbt"
	"github.com/spillway/spillway/watch/tower"
)

// Exit codes, a contract with scripts.
const (
	exitDone        = 0
	exitDefect      = 1 // a defect of ours
	exitUsage       = 2
	exitConsent     = 3 // budget, prepayment, real money
	exitCoins       = 4 // not enough coins
	exitMisbehaved  = 5 // the other side: wrong bytes, proof, quote, signature
	exitUnreachable = 6 // the other side
	exitChain       = 7 // the chain backend fails or is stale
	exitLocal       = 8 // local state: locked, damaged, passphrase, disk, permissions
	exitRefused     = 9 // by the other side: price changed, unknown file, channel refused
	exitInterrupted = 130
)

// failure is an error as a person and a script see it.
type failure struct {
	exit    int
	code    string // stable, for scripts
	message string // what happened
	money   string // what it means for the money
	next    string // what to do next
	err     error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.err }

func usage(err error) error {
	return &failure{exit: exitUsage, code: "usage", message: err.Error(), money: "Nothing was paid or locked.",
		next: "See the command's --help.", err: err}
}

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// kind is one row of the table from errors to failures.
type kind struct {
	is    error
	exit  int
	code  string
	money string
	next  string
}

const (
	noMoney  = "Nothing was paid or locked."
	keptHere = "No payment is lost: everything signed or received is saved before it is used."
	refundOK = "What is locked and unpaid stays yours: it comes back when the channel closes, or with the refund after its expiry."
)

// kinds is looked through in order; the first match counts.
var kinds = []kind{
	{store.ErrLocked, exitLocal, "locked", noMoney, "Stop the other process on this data folder, or name another with --data."},
	{store.ErrFull, exitLocal, "disk-full", keptHere, "Free some space and run the command again."},
	{syscall.ENOSPC, exitLocal, "disk-full", keptHere, "Free some space and run the command again."},
	{syscall.EDQUOT, exitLocal, "disk-full", keptHere, "Free some space and run the command again."},
	{syscall.EFBIG, exitLocal, "disk-full", keptHere, "Allow larger files there and run the command again."},
	{store.ErrDamaged, exitLocal, "damaged", keptHere, "Keep the folder as it is, copy it, and look at what the message names before going on."},
	{store.ErrReadOnly, exitLocal, "read-only", keptHere, "Make the data folder writable."},
	{store.ErrNewer, exitLocal, "newer-data", keptHere, "Use the newer version of spillway that wrote this folder, or name another folder with --data."},
	{store.ErrFailed, exitLocal, "disk-failed", keptHere, "Look at the disk and the system's log, then run the command again; what was being saved then counts only if it is there."},
	{syscall.EIO, exitLocal, "disk-failed", keptHere, "Look at the disk and the system's log, then run the command again; it goes on from what is safely there."},
	{store.ErrInvalid, exitDefect, "defect", keptHere, "This is a defect of ours: please report the message."},
	{store.ErrConflict, exitLocal, "busy", keptHere, "Another process changed the same thing at the same moment: run the command again."},
	{content.ErrBusy, exitLocal, "locked", keptHere, "Wait for the other process that writes this file, or stop it."},
	{keys.ErrDamaged, exitLocal, "seed-damaged", "Nothing was paid or locked. The money hangs on the wallet's words, not on this file.",
		"Put a copy of the file back; or move the damaged one away and type the words into: spillway wallet restore"},
	{keys.ErrExists, exitLocal, "wallet-exists", "The wallet that is there was not touched.", "Use it, or name another folder with --data."},
	{keys.ErrWords, exitUsage, "words", noMoney, "Check spelling, order and number of the words: 12 to 24 of the BIP39 list, the last one is a checksum."},
	{keys.ErrPassphrase, exitLocal, "passphrase", noMoney, "Check the passphrase in --passphrase-file or SPILLWAY_PASSPHRASE; the seed itself is untouched."},
	{keys.ErrPermissions, exitLocal, "permissions", noMoney, "Make the seed file private: chmod 600."},
	{keys.ErrNoSeed, exitLocal, "no-wallet", noMoney, "Create one with: spillway wallet create"},
	{wallet.ErrOtherSeed, exitLocal, "other-seed", noMoney, "Put the seed back that this folder was made with, or name another folder with --data."},
	{wallet.ErrAddress, exitUsage, "address", noMoney, "Check the address, and --network."},
	{wallet.ErrOutput, exitUsage, "amount", noMoney, "Name an amount above the dust limit and below what there is."},
	{wallet.ErrRate, exitChain, "fee-rate", noMoney, "The blockchain at --chain names fee rates that make no sense: use another."},
	{wallet.ErrNotBuilt, exitUsage, "unknown-transaction", noMoney, "See the wallet's own with: spillway wallet history"},
	{wallet.ErrMined, exitRefused, "mined", noMoney, "There is nothing to do."},
	{wallet.ErrNoChange, exitRefused, "no-change", noMoney, "Wait, or spend the newest child of it: bump that one."},
	{wallet.ErrRateReached, exitRefused, "rate-reached", noMoney, "Name a higher --fee-rate, or wait."},
	{wallet.ErrInsufficient, exitCoins, "not-enough-coins", noMoney, "Send coins to: spillway wallet address"},
	{psbt.ErrFormat, exitUsage, "psbt", noMoney, "Save the PSBT in your wallet again (BIP174, binary or base64), and give that file."},
	{psbt.ErrTooLarge, exitUsage, "psbt", noMoney, "Save the PSBT in your wallet again, and give that file."},
	{psbt.ErrVersion, exitUsage, "psbt-version", noMoney, "Have your wallet save it as version 0 (BIP174)."},
	{psbt.ErrNoInputs, exitUsage, "psbt-no-inputs", noMoney, "Let your wallet choose the coins: the PSBT has to be complete but for its signatures."},
	{psbt.ErrNotSegwit, exitUsage, "psbt-not-segwit", noMoney, "Pay from native segwit coins only (addresses bc1…, tb1…, bcrt1…): others could void the refund."},
	{psbt.ErrNoUTXO, exitUsage, "psbt-no-utxo", noMoney, "Have your wallet put in what the inputs spend, as it does for hardware wallets."},
	{psbt.ErrUTXO, exitUsage, "psbt-utxo", noMoney, "Let your wallet catch up with the chain, and make the payment again. Check --network."},
	{psbt.ErrSpent, exitUsage, "psbt-spent", noMoney, "Let your wallet catch up with the chain, and make the payment again."},
	{psbt.ErrImmature, exitUsage, "psbt-immature", noMoney, "Choose other coins: a block reward can be spent after 100 blocks."},
	{psbt.ErrDuplicate, exitUsage, "psbt", noMoney, "Make the payment again in your wallet."},
	{psbt.ErrNoOutput, exitUsage, "psbt-no-output", noMoney, "See which address is to be paid, and how much: spillway open URL --psbt"},
	{psbt.ErrAmount, exitUsage, "psbt-amount", noMoney, "Pay exactly what was asked for, with the fee on top: spillway open URL --psbt"},
	{psbt.ErrTwice, exitUsage, "psbt-change", noMoney, "Pay the channel's address once, and let the change go to your wallet."},
	{psbt.ErrOutput, exitUsage, "psbt-output", noMoney, "Make the payment again without that output."},
	{psbt.ErrLock, exitUsage, "psbt-lock", noMoney, "Make the payment again without a lock time."},
	{psbt.ErrTxVersion, exitUsage, "psbt-version", noMoney, "Have your wallet make a transaction of version 2."},
	{psbt.ErrFee, exitUsage, "psbt-fee", noMoney, "Make the payment again at another fee rate."},
	{psbt.ErrSighash, exitUsage, "psbt-sighash", "Nothing was sent.", "Sign it with SIGHASH_ALL (or DEFAULT): anything less lets others change it, and voids the refund."},
	{psbt.ErrOther, exitUsage, "psbt-other", "Nothing was sent.", "Sign the PSBT that was checked, unchanged."},
	{psbt.ErrUnsigned, exitUsage, "psbt-unsigned", "Nothing was sent.", "Sign it with all the keys that it needs, and give the result."},
	{psbt.ErrSignature, exitUsage, "psbt-signature", "Nothing was sent.", "Sign the PSBT that was checked again."},
	{node.ErrNoWallet, exitUsage, "node-wallet", noMoney, "Load it (bitcoin-cli loadwallet NAME) and name it: --wallet bitcoind:NAME"},
	{node.ErrWhich, exitUsage, "node-wallet", noMoney, "Name one of them: --wallet bitcoind:NAME"},
	{node.ErrLocked, exitLocal, "node-wallet-locked", noMoney, "Unlock it for a minute: bitcoin-cli walletpassphrase PASSPHRASE 60"},
	{node.ErrCannotSign, exitUsage, "node-wallet-watching", noMoney, "Its keys are elsewhere: use --psbt, and sign there."},
	{node.ErrAnswer, exitChain, "chain-nonsense", noMoney, "Check which node answers at --chain, and its version: Bitcoin Core 28 or later."},
	{payer.ErrUnsigned, exitRefused, "unsigned", "Nothing was sent and nothing is locked.", "Sign its funding in your wallet, then: spillway open URL --psbt signed.psbt"},
	{payer.ErrNoInvitation, exitUsage, "unknown-channel", noMoney, "Begin with: spillway open URL --psbt"},
	{chain.ErrRejected, exitChain, "rejected", refundOK, "The node gave the reason; run the command again when it is mended."},
	{chain.ErrStale, exitChain, "chain-stale", refundOK, "Wait until the node has caught up with its network, or name another with --chain."},
	{btcd.ErrAuth, exitChain, "chain-credentials", refundOK, "Give the node's --rpcuser in the URL of --chain, and its --rpcpass in a file with ?password-file=PATH, or in SPILLWAY_CHAIN."},
	{btcd.ErrCertificate, exitChain, "chain-certificate", refundOK, "Name the node's rpc.cert with ?cert=PATH; a node on this machine that was started with --notls is asked with ?tls=0."},
	{btcd.ErrNoFilters, exitChain, "no-filters", refundOK, "Start btcd without --nocfilters."},
	{neutrino.ErrNoPeers, exitChain, "no-peers", refundOK, "Check the connection to the network, or name a peer that serves compact filters, or a node of your own, with --chain."},
	{neutrino.ErrInUse, exitLocal, "light-in-use", keptHere, "Wait until another spillway has ended, or name a node with --chain."},
	{bitcoind.ErrAuth, exitChain, "chain-credentials", refundOK, "Give the node's user and password in SPILLWAY_CHAIN, or its .cookie file with ?cookie=PATH."},
	{channel.ErrBudget, exitConsent, "budget", refundOK, "Raise --budget if it is worth more to you."},
	{channel.ErrCap, exitConsent, "capacity-cap", noMoney, "Raise --max-capacity if you want to lock that much."},
	{channel.ErrPrepay, exitConsent, "prepayment", refundOK, "Allow it with --max-prepay if you trust the provider with that much."},
	{channel.ErrAmountExceeds, exitConsent, "capacity", refundOK, "Close this channel and open a larger one."},
	{channel.ErrSignature, exitMisbehaved, "signature", refundOK, "Try another provider."},
	{channel.ErrNotYet, exitRefused, "too-early", refundOK, "Run the command again at that height."},
	{channel.ErrTerms, exitRefused, "terms", refundOK, "Ask for other terms, or try another provider."},
	{channel.ErrNothingAtStake, exitRefused, "nothing-paid", "Nothing was paid in this channel.", "There is nothing to do."},
	{channel.ErrTooSmall, exitRefused, "too-small", "The amount stays in the channel.", "Wait until more was paid or fees are lower."},
	{channel.ErrOwes, exitRefused, "owes", "What was delivered and verified is not signed for yet; nothing more is at stake.", "Run the same get again: it pays what is owed and closes."},
	{errOtherBackup, exitUsage, "other-backup", "Nothing was restored.", "Name the backup's network with --network."},
	{sqlite.ErrNotBackup, exitUsage, "no-backup", "Nothing was restored.", "Name a file that spillway backup wrote: a plain copy of a store in use is not one moment of it."},
	{sqlite.ErrExists, exitLocal, "exists", "What is there was not touched.", "Name another file, or another folder with --data."},
	{payer.ErrExportNewer, exitLocal, "newer-data", noMoney, "Use the newer version of spillway that made the export."},
	{payer.ErrExport, exitUsage, "export", noMoney, "Take another copy of the file. The wallet's words and a whole export are needed together."},
	{payer.ErrExportContent, exitUsage, "export", noMoney, "Take another copy of the file: this one was changed."},
	{payer.ErrExportNetwork, exitUsage, "other-network", noMoney, "Name the export's network with --network."},
	{payer.ErrExportSeed, exitLocal, "other-seed", noMoney, "Restore the wallet that opened the channel, from its words, into another folder with --data."},
	{payer.ErrExportKnown, exitRefused, "channel-known", "The channel that is here was not touched.", "Look at it with: spillway channels show ID"},
	{payer.ErrUnknown, exitUsage, "unknown-channel", noMoney, "List the channels with: spillway channels list"},
	{channel.ErrFinalized, exitRefused, "finalized", "The channel's last state stands.", "Look at it with: spillway channels show ID"},
	{bao.ErrWrongBytes, exitMisbehaved, "wrong-bytes", "The chunk with the wrong bytes was not paid. " + refundOK, "Try another provider; what was verified is kept."},
	{download.ErrStream, exitInterrupted, "output-closed", "What came is kept and paid; nothing more was asked for. " + refundOK,
		"Run the same command again: it begins at the first byte, and nothing is paid twice."},
	{channel.ErrStopped, exitLocal, "channel-stopped", "Nothing more is signed in this channel. " + refundOK, "Keep a copy of the data folder and report the message. A new get opens another channel."},
	{channel.ErrInvariant, exitLocal, "channel-stopped", "Nothing more is signed in this channel. " + refundOK, "Keep a copy of the data folder and report the message. A new get opens another channel."},
	{channel.ErrInsufficient, exitConsent, "prepayment", refundOK, "Allow it with --max-prepay if you trust the provider with that much."},
	{channel.ErrUnconfirmed, exitChain, "unconfirmed", refundOK, "Run the command again when the funding is confirmed."},
	{channel.ErrExpiring, exitRefused, "expiring", refundOK, "Run the command again: it opens another channel."},
	{channel.ErrConflict, exitRefused, "conflict", refundOK, "Look at what is here with: spillway channels list"},
	{channel.ErrUnsupported, exitRefused, "unsupported", "The channel stays as it is.", "See what its kind can do with: spillway channels show ID"},
	{channel.ErrOverflow, exitUsage, "amount", noMoney, "Name an amount up to 21,000,000 BTC."},
	{payer.ErrNoBump, exitRefused, "no-bump", "The transaction stays as it is.", "Wait until it is mined."},
	{wallet.ErrDear, exitConsent, "fee-cap", "The transaction stays as it is.", "Raise --max-fee if it is worth that to you, or wait until it is mined."},
	{payee.ErrUnknown, exitUsage, "unknown-channel", noMoney, "List the channels with: spillway channels list"},
	{payee.ErrStale, exitChain, "chain-stale", refundOK, "Wait until the node has caught up with its network, or name another with --chain."},
	{payee.ErrBusy, exitRefused, "busy-provider", noMoney, "Try again when the channels that wait have their confirmations."},
	{payee.ErrEpoch, exitLocal, "epoch", "Nothing was restored.", "Run the command again: it draws another number."},
	{tower.ErrToken, exitUsage, "token", noMoney, "Ask the tower's operator for a token: spillway tower --add-provider NAME"},
	{tower.ErrName, exitUsage, "usage", noMoney, "Name the provider with small letters, digits and hyphens."},
	{tower.ErrKnown, exitUsage, "usage", "The token that this provider has stays good.", "Choose another name."},
	{content.ErrManifest, exitMisbehaved, "manifest", noMoney, "Try another provider, or the same one later."},
	{content.ErrManifestVersion, exitMisbehaved, "manifest", noMoney, "Use a newer version of spillway, or try another provider."},
	{content.ErrManifestSignature, exitMisbehaved, "manifest", noMoney, "Try another provider: somebody changed what this one says."},
	{content.ErrName, exitUsage, "file-name", noMoney, "Rename the file: a name has no .., no hidden part and no control character."},
	{content.ErrPriceList, exitUsage, "price-list", noMoney, "Mend the line that the message names; spillway serve --help has the form."},
	{content.ErrNotFound, exitUsage, "not-found", noMoney, "Check the path."},
	{content.ErrNotOffered, exitUsage, "not-offered", noMoney, "Name a regular file or a folder that may be read and is not hidden."},
	{content.ErrDuplicate, exitUsage, "duplicate", noMoney, "Rename one of them, or serve the folder that holds both."},
	{content.ErrTooCheap, exitUsage, "too-cheap", noMoney, "Raise the price, or take larger chunks; free is a price too."},
	{content.ErrTooMany, exitUsage, "too-many-files", noMoney, "Serve fewer files, or several providers."},
	{content.ErrChanged, exitLocal, "file-changed", keptHere, "Leave the file alone while it is read, and run the command again."},
	{content.ErrPartMissing, exitLocal, "part-missing", keptHere, "Run the command again: what is missing is fetched, free where it was paid."},
	{content.ErrNoTree, exitLocal, "part-missing", keptHere, "Run the command again: what is missing is fetched, free where it was paid."},
	{content.ErrIncomplete, exitLocal, "incomplete", keptHere, "Run the command again: what is missing is fetched, free where it was paid."},
	{content.ErrRanges, exitLocal, "part-missing", keptHere, "Run the command again: what is missing is fetched, free where it was paid."},
	{content.ErrExists, exitUsage, "file-exists", noMoney, "Name another file with -o, or remove the one that is there."},
	{content.ErrSyntax, exitUsage, "usage", noMoney, "See the command's --help for how it is written."},
	{content.ErrUnit, exitUsage, "usage", noMoney, "Give a unit, such as sat, msat, btc, KiB or MiB."},
	{content.ErrPrecision, exitUsage, "usage", noMoney, "Name whole units: nothing is finer than a msat or a byte."},
	{content.ErrTooLarge, exitUsage, "usage", noMoney, "Name less."},
	{content.ErrZero, exitUsage, "usage", noMoney, "Name more than nothing."},
	{bao.ErrTruncated, exitMisbehaved, "wrong-bytes", "The chunk that ended early was not paid. " + refundOK, "Run the command again, or try another provider; what was verified is kept."},
	{bao.ErrTrailing, exitMisbehaved, "wrong-bytes", "The chunk with the wrong bytes was not paid. " + refundOK, "Try another provider; what was verified is kept."},
	{bao.ErrDamaged, exitLocal, "damaged", noMoney, "Remove the folder outboards in the provider's data folder: it is made again."},
	{bao.ErrSourceShort, exitLocal, "file-changed", keptHere, "Leave the file alone while it is sold, or serve it again."},
	{bao.ErrSourceWrong, exitLocal, "file-changed", keptHere, "Leave the file alone while it is sold, or serve it again."},
	{bao.ErrSize, exitUsage, "too-large", noMoney, "Serve a smaller file."},
	{esplora.ErrConfig, exitUsage, "usage", noMoney, "Check --chain."},
	{bitcoind.ErrConfig, exitUsage, "usage", noMoney, "Check --chain."},
	{btcd.ErrConfig, exitUsage, "usage", noMoney, "Check --chain."},
	{neutrino.ErrConfig, exitUsage, "usage", noMoney, "Check --chain."},
	{btcd.ErrNetwork, exitChain, "other-network", noMoney, "Name a node of this network with --chain, or its network with --network."},
	{btcd.ErrNonsense, exitChain, "chain-nonsense", refundOK, "Name another node with --chain, or two of them: they are compared."},
	{several.ErrConfig, exitUsage, "usage", noMoney, "Check --chain."},
	{esplora.ErrNetwork, exitChain, "other-network", noMoney, "Name a server of this network with --chain, or its network with --network."},
	{bitcoind.ErrNetwork, exitChain, "other-network", noMoney, "Name a node of this network with --chain, or its network with --network."},
	{esplora.ErrNonsense, exitChain, "chain-nonsense", refundOK, "Name another blockchain with --chain, or two of them: they are compared."},
	{bitcoind.ErrNonsense, exitChain, "chain-nonsense", refundOK, "Name another node with --chain, or two of them: they are compared."},
	{bitcoind.ErrBeyond, exitChain, "beyond-window", refundOK, "Give the node's URL a larger window, or an earlier birthday: ?window=BLOCKS&birthday=HEIGHT"},
	// what says why comes before that it can't be asked
	{chain.ErrUnavailable, exitChain, "chain-unavailable", refundOK, "Check --chain; on regtest start one with: spillway devnet"},
	{chain.ErrDeepReorg, exitChain, "deep-reorg", refundOK, "Look at the network before going on: this is rarer than a broken node."},
	{chain.ErrNotFound, exitChain, "not-on-chain", refundOK, "Check --chain and --network, and try again when the transaction has spread."},
	{devnet.ErrLocked, exitLocal, "locked", noMoney, "Stop the other process on this data folder, or name another with --data."},
	{devnet.ErrDamaged, exitLocal, "damaged", "Coins of a devnet are worth nothing.", "Remove the folder devnet in the data folder, with the wallets that were on it."},
	{devnet.ErrRange, exitUsage, "usage", noMoney, "Name less."},
	{devnet.ErrFaucetEmpty, exitCoins, "faucet-empty", noMoney, "Mine some blocks, and try again: POST /mine"},
	{fs.ErrPermission, exitLocal, "permissions", keptHere, "Check who may write there."},
	{fs.ErrNotExist, exitUsage, "not-found", noMoney, "Check the path."},
	{context.DeadlineExceeded, exitUnreachable, "timeout", keptHere, "Run the same command again; it goes on from here."},
}

// explain turns any error into a failure.
func explain(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var stop *channel.StoppedError
	if errors.As(err, &stop) {
		return explainStopped(stop, err)
	}
	if f := explainRemote(err); f != nil {
		return f
	}
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return &failure{exit: k.exit, code: k.code, message: sentence(err), money: k.money, next: k.next, err: err}
		}
	}
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return &failure{exit: exitLocal, code: "local", message: sentence(err), money: keptHere,
			next: "Check the path, its permissions and the free space.", err: err}
	}
	if text := err.Error(); strings.HasPrefix(text, "unknown command") || strings.HasPrefix(text, "if any flags in the group") {
		return usage(err).(*failure)
	}
	return &failure{exit: exitDefect, code: "defect", message: sentence(err), money: keptHere,
		next: "This is most likely a defect of ours: please report the message.", err: err}
}

// maxSentence bounds what a message repeats of what others said, in characters.
const maxSentence = 2000

// sentence is an error's text on one line. Much of it may be another's word: what could
// control a terminal is left out, and it ends somewhere.
func sentence(err error) string {
	return clip(printable(strings.ReplaceAll(err.Error(), "\n", "; ")), maxSentence)
}
