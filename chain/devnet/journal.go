package devnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

// The journal is a file of frames. A frame is written and synced before the node answers for what is in it, and
// takes effect as a whole or not at all:
//
//	4 bytes  length of the payload, little endian
//	4 bytes  CRC-32C of these four bytes
//	4 bytes  CRC-32C of the payload
//	payload  records: 1 byte kind, 4 bytes length, bytes
const (
	journalName  = "chain.log"
	lockName     = "lock"
	journalMagic = "spillway devnet 1\n"
	frameHeader  = 12
	maxFrame     = 1 << 30
)

// The kinds of records.
const (
	kindBlock byte = 'b' // a serialized block
	kindTx    byte = 't' // a serialized transaction that the mempool accepted
	kindDrop  byte = 'd' // the txid of a transaction that the reorg of the same frame forgets
)

type record struct {
	kind byte
	data []byte
}

// journal is the open file, for appending, and the lock of its folder.
type journal struct {
	file *os.File
	lock *os.File
}

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// openJournal locks a folder, reads the journal in it and leaves the file open for appending.
// Errors: ErrLocked, ErrDamaged, those of the file system.
func openJournal(dir string, log *slog.Logger) (j *journal, frames [][]record, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("devnet: folder of the chain: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, nil, err
	}
	j = &journal{lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.Close())
		}
	}()
	if j.file, err = os.OpenFile(filepath.Join(dir, journalName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return j, nil, fmt.Errorf("devnet: open the chain's log: %w", err)
	}
	raw, err := io.ReadAll(j.file)
	if err != nil {
		return j, nil, fmt.Errorf("devnet: read the chain's log: %w", err)
	}
	if len(raw) < len(journalMagic) {
		return j, nil, j.begin(dir, raw)
	}
	frames, good, err := parseJournal(raw)
	if err != nil {
		return j, nil, err
	}
	if good < len(raw) {
		log.Warn("devnet: cut the torn end of the chain's log", "bytes", len(raw)-good)
		if err := errors.Join(j.file.Truncate(int64(good)), j.file.Sync()); err != nil {
			return j, nil, fmt.Errorf("devnet: cut the torn end of the chain's log: %w", err)
		}
	}
	if _, err = j.file.Seek(int64(good), io.SeekStart); err != nil {
		return j, nil, fmt.Errorf("devnet: end of the chain's log: %w", err)
	}
	return j, frames, nil
}

func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("devnet: lock of the chain's folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %s", ErrLocked, dir)
		}
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// begin writes the head of a new journal; a head that was torn is written again.
func (j *journal) begin(dir string, had []byte) error {
	if string(had) != journalMagic[:len(had)] && !zeros(had) {
		return fmt.Errorf("%w: it does not begin as a chain's log does", ErrDamaged)
	}
	if _, err := j.file.WriteAt([]byte(journalMagic), 0); err != nil {
		return fmt.Errorf("devnet: begin the chain's log: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("devnet: begin the chain's log: %w", err)
	}
	if _, err := j.file.Seek(int64(len(journalMagic)), io.SeekStart); err != nil {
		return fmt.Errorf("devnet: begin the chain's log: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("devnet: sync the chain's folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("devnet: sync the chain's folder: %w", err)
	}
	return nil
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// parseJournal splits a journal into frames and says how many bytes of it are good. What follows the last good
// frame is a torn write if no good frame comes after it, and damage otherwise. Errors: ErrDamaged.
func parseJournal(raw []byte) (frames [][]record, good int, err error) {
	if len(raw) < len(journalMagic) || string(raw[:len(journalMagic)]) != journalMagic {
		return nil, 0, fmt.Errorf("%w: it does not begin as a chain's log does", ErrDamaged)
	}
	good = len(journalMagic)
	for good < len(raw) {
		payload, ok := frameAt(raw[good:])
		if !ok {
			break
		}
		records, err := parseRecords(payload)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: frame at byte %d: %w", ErrDamaged, good, err)
		}
		frames = append(frames, records)
		good += frameHeader + len(payload)
	}
	for at := good + 1; at < len(raw); at++ {
		if p, ok := frameAt(raw[at:]); ok && len(p) > 0 {
			return nil, 0, fmt.Errorf("%w: byte %d does not begin a frame, byte %d does", ErrDamaged, good, at)
		}
	}
	return frames, good, nil
}

// frameAt reads the frame that these bytes begin with.
func frameAt(b []byte) (payload []byte, ok bool) {
	if len(b) < frameHeader || castagnoli(b[:4]) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxFrame || uint64(n) > uint64(len(b)-frameHeader) {
		return nil, false
	}
	payload = b[frameHeader : frameHeader+int(n)]
	return payload, castagnoli(payload) == binary.LittleEndian.Uint32(b[8:])
}

func parseRecords(payload []byte) (records []record, err error) {
	for len(payload) > 0 {
		if len(payload) < 5 {
			return nil, errors.New("a record is cut short")
		}
		n := binary.LittleEndian.Uint32(payload[1:])
		if uint64(n) > uint64(len(payload)-5) {
			return nil, errors.New("a record is longer than its frame")
		}
		records = append(records, record{payload[0], payload[5 : 5+n]})
		payload = payload[5+n:]
	}
	return records, nil
}

// append writes one frame and syncs it.
func (j *journal) append(records []record) error {
	frame := make([]byte, frameHeader)
	for _, r := range records {
		frame = append(frame, r.kind)
		frame = binary.LittleEndian.AppendUint32(frame, uint32(len(r.data)))
		frame = append(frame, r.data...)
	}
	if len(frame) > maxFrame {
		return fmt.Errorf("devnet: a frame of %d bytes is too long for the chain's log", len(frame))
	}
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-frameHeader))
	binary.LittleEndian.PutUint32(frame[4:], castagnoli(frame[:4]))
	binary.LittleEndian.PutUint32(frame[8:], castagnoli(frame[frameHeader:]))
	if _, err := j.file.Write(frame); err != nil {
		return fmt.Errorf("devnet: write the chain's log: %w", err)
	}
	if err := syscall.Fdatasync(int(j.file.Fd())); err != nil {
		return fmt.Errorf("devnet: sync the chain's log: %w", err)
	}
	return nil
}

// Close gives the folder free.
func (j *journal) Close() (err error) {
	if j.file != nil {
		err = j.file.Close()
	}
	if j.lock != nil {
		err = errors.Join(err, j.lock.Close())
	}
	return err
}
