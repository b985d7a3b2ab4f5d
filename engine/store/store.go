// Package store keeps what must survive the engine: the journal, receipts, the
// ledger of acts, the job board, and small documents of other rooms (handles of
// processes, wishes, marks on alerts).
//
// Promises. A method that changes something returns after the change is on disk
// (fsync), or with an error and nothing changed. Callers that come at the same
// time share one fsync. A store that cannot be read is never written to. One
// process at a time holds a store. All methods may be called from any goroutine;
// they block on the disk, so nothing on a signing path calls them.
//
// One file, store.db (bbolt). Values are JSON behind a CRC-32C of key and value.
//
//	store.db
//	├── meta
//	│   ├── format        version of this tree, decimal text: see upgrades
//	│   ├── id            names the engine: 26 characters, made with the store
//	│   └── created       RFC 3339, UTC
//	├── journal           number (8 bytes, big endian) → engine.Entry
//	├── receipts          request key → receipt, action and problem of a done request
//	├── receipts.at       time (8 bytes, Unix nanoseconds) + request key → empty
//	├── acts              number (8 bytes) → engine.ActRow and the request it came from
//	├── counters          name → number
//	├── shelf
//	│   └── NAME          id → document of the room that owns the shelf
//	└── board
//	    ├── tickets       job id → prover.Ticket without the bodies of its proof
//	    ├── proofs        job id → prover.Proof
//	    ├── queued        submission number (8 bytes) → job id, of queued jobs
//	    ├── open          submission number (8 bytes) → job id, of jobs that have not ended
//	    ├── ended         revision (8 bytes) → job id, in order of finishing
//	    ├── totals        "jobs" → prover.JobTotals
//	    ├── workers       worker id → prover.WorkerCount
//	    └── pauses        worker id → prover.Pause
//
// Format 1, 2026-11-20: the first.
package store

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"app.provost/engine"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Format is the version of the tree that this package writes.
const Format = 1

// upgrades takes a store from the format that is its index to the next one.
// A copy of the file as it was is kept beside it (store.db.format-N).
var upgrades = map[int]func(*bolt.Tx) error{}

const fileName = "store.db"

var (
	bMeta       = []byte("meta")
	bJournal    = []byte("journal")
	bReceipts   = []byte("receipts")
	bReceiptsAt = []byte("receipts.at")
	bActs       = []byte("acts")
	bCounters   = []byte("counters")
	bShelf      = []byte("shelf")
	bBoard      = []byte("board")

	kFormat  = []byte("format")
	kID      = []byte("id")
	kCreated = []byte("created")
)

// Options says where a store is and what it keeps. Dir is needed; zero values of
// the rest mean the defaults named.
type Options struct {
	// Dir is the state directory. It must exist.
	Dir string
	// Socket and Version go into engine.lock, for whoever finds the store taken.
	Socket, Version string
	Logger          *slog.Logger // default: none
	// Slow is told when a commit took longer than SlowAfter (default 1 s). It must not block or call the store.
	Slow      func(took time.Duration)
	SlowAfter time.Duration
	// JournalEntries (default 100,000) and JournalAge (default 90 days) bound the journal.
	JournalEntries uint64
	JournalAge     time.Duration
	// ReceiptAge (default 7 days) is how long a request key is remembered.
	ReceiptAge time.Duration
	// ActRows (default 1,000) bounds the ledger; open acts are kept in any case.
	ActRows int
	// EndedJobs is how many ended jobs are kept with their proofs; 0: all.
	EndedJobs int
	// MaxBytes bounds the file; 0: only the disk does.
	MaxBytes int
}

// Store is an open store. Close it.
type Store struct {
	o    Options
	id   string
	lock *os.File
	db   *bolt.DB

	lead chan struct{} // held by the caller that commits
	room chan struct{} // one place per waiting caller: full means wait

	mu     sync.Mutex // guards the fields below; nothing is done under it that blocks
	queue  []*op
	closed bool
	failed error     // a write failed in a way after which the file must not be written
	tidied time.Time // when old things were last trimmed
	counts Stats
}

// Stats says what the store has done since it was opened.
type Stats struct {
	Commits   uint64        // transactions with an fsync
	Changes   uint64        // changes in them: Changes/Commits is what group commit saves
	Slowest   time.Duration // longest commit
	FileBytes int64
}

// Open opens the store in o.Dir, and makes it when there is none. Errors are
// *engine.Problem: state.locked, state.damaged, state.newer, state.no-space, state.unwritable.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("open store: Options.Dir is empty")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.SlowAfter, time.Second)
	setDefault(&o.JournalEntries, 100_000)
	setDefault(&o.JournalAge, 90*24*time.Hour)
	setDefault(&o.ReceiptAge, 7*24*time.Hour)
	setDefault(&o.ActRows, 1000)

	lock, err := takeLock(o)
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, lock: lock, lead: make(chan struct{}, 1), room: make(chan struct{}, maxWaiting)}
	if err := s.open(); err != nil {
		if s.db != nil {
			s.db.Close()
		}
		dropLock(lock)
		return nil, err
	}
	return s, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (s *Store) path() string { return filepath.Join(s.o.Dir, fileName) }

func (s *Store) open() error {
	path := s.path()
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := create(s.o); err != nil {
			return s.problem("create store", err)
		}
	} else if err != nil {
		return s.problem("open store", err)
	}
	db, err := openFile(path, s.o.MaxBytes)
	if err != nil {
		return s.problem("open store", err)
	}
	s.db = db
	format, err := s.inspect()
	if err != nil {
		return s.problem("open store", err)
	}
	for ; format < Format; format++ {
		if err := s.upgrade(format); err != nil {
			return s.problem("upgrade store", err)
		}
	}
	return nil
}

// create makes the file aside and renames it, so that a store.db that is empty
// or has no tree is always damage and never a beginning.
func create(o Options) error {
	path := filepath.Join(o.Dir, fileName)
	aside := path + ".new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := openFile(aside, o.MaxBytes)
	if err != nil {
		os.Remove(aside)
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bMeta, bJournal, bReceipts, bReceiptsAt, bActs, bCounters, bShelf, bBoard} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		for _, name := range boardBuckets {
			if _, err := tx.Bucket(bBoard).CreateBucket(name); err != nil {
				return err
			}
		}
		var id [16]byte
		rand.Read(id[:])
		m := tx.Bucket(bMeta)
		return errors.Join(
			m.Put(kFormat, []byte(strconv.Itoa(Format))),
			m.Put(kID, []byte(strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:])))),
			m.Put(kCreated, []byte(time.Now().UTC().Format(time.RFC3339))))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		os.Remove(aside)
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return syncDir(o.Dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// openFile opens a bbolt file. Damage that makes bbolt panic, or reach behind the
// end of the file, comes back as an error; the descriptor is closed in any case.
func openFile(path string, maxBytes int) (db *bolt.DB, err error) {
	var file *os.File
	err = guarded(func() error {
		var err error
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:      200 * time.Millisecond,
			FreelistType: bolt.FreelistMapType,
			MaxSize:      maxBytes,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				// Only a new store, made aside, may be created.
				if !strings.HasSuffix(name, ".new") {
					flag &^= os.O_CREATE
				}
				f, err := os.OpenFile(name, flag, mode)
				if err == nil && file == nil {
					if st, serr := f.Stat(); serr == nil && st.Size() == 0 && flag&os.O_CREATE == 0 {
						f.Close()
						return nil, damaged{errors.New("the file is empty")}
					}
					file = f
				}
				return f, err
			},
		})
		return err
	})
	if err != nil {
		if file != nil {
			// After a panic the mapping keeps the file open, and with it the lock.
			unix.Flock(int(file.Fd()), unix.LOCK_UN)
			file.Close() // a second Close is harmless; after a panic bbolt has not done it
		}
		return nil, err
	}
	return db, nil
}

// damaged marks errors that say that the file is not what was written.
type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

// guarded turns a panic of bbolt on a damaged page, and a fault in the mapping of
// a file that was cut short, into an error.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged{fmt.Errorf("its pages do not fit together (%v)", r)}
		}
	}()
	return fn()
}

// inspect reads the format and then every page and value once, before anything is written.
func (s *Store) inspect() (format int, err error) {
	err = guarded(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			if st, err := os.Stat(s.path()); err != nil {
				return err
			} else if st.Size() < tx.Size() {
				return damaged{fmt.Errorf("the file has %d bytes and should have %d or more: it was cut short", st.Size(), tx.Size())}
			}
			m := tx.Bucket(bMeta)
			if m == nil {
				return damaged{errors.New("it carries no format number: another program's file")}
			}
			var err error
			if format, err = strconv.Atoi(string(m.Get(kFormat))); err != nil || format < 1 {
				return damaged{fmt.Errorf("its format number is %q", m.Get(kFormat))}
			}
			if format > Format {
				return newer(format)
			}
			s.id = string(m.Get(kID))
			err = tx.ForEach(func(name []byte, b *bolt.Bucket) error {
				return walk(string(name), b, !bytes.Equal(name, bMeta) && !bytes.Equal(name, bReceiptsAt))
			})
			if err != nil {
				return err
			}
			if err := pageLengths(tx); err != nil {
				return err
			}
			// Pages have all been touched now, so Check (which works in a goroutine of
			// its own, where a fault could not be caught) stays inside the file.
			var first error
			for err := range tx.Check() {
				if first == nil {
					first = damaged{err}
				}
			}
			if first != nil {
				return first
			}
			if format == Format {
				return complete(tx)
			}
			return nil
		})
	})
	return format, err
}

// pageLengths refuses a page that claims to be longer than the file: it would keep
// bbolt's own check busy for hours.
func pageLengths(tx *bolt.Tx) error {
	pages := int(tx.Size() / int64(tx.DB().Info().PageSize))
	for id := 0; id < pages; id++ {
		p, err := tx.Page(id)
		if err != nil {
			return damaged{err}
		}
		if p == nil || p.Type == "free" {
			continue
		}
		if p.OverflowCount < 0 || p.OverflowCount >= pages-id {
			return damaged{fmt.Errorf("page %d claims to be %d pages long", id, p.OverflowCount+1)}
		}
		id += p.OverflowCount
	}
	return nil
}

func complete(tx *bolt.Tx) error {
	for _, name := range [][]byte{bJournal, bReceipts, bReceiptsAt, bActs, bCounters, bShelf, bBoard} {
		if tx.Bucket(name) == nil {
			return damaged{fmt.Errorf("the part %q is missing", name)}
		}
	}
	for _, name := range boardBuckets {
		if tx.Bucket(bBoard).Bucket(name) == nil {
			return damaged{fmt.Errorf("the part \"board/%s\" is missing", name)}
		}
	}
	return nil
}

func walk(path string, b *bolt.Bucket, sealed bool) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return walk(path+"/"+string(k), b.Bucket(k), sealed)
		}
		if sealed && len(v) > 0 {
			if _, err := open(k, v); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return nil
	})
}

type newer int

func (n newer) Error() string {
	return fmt.Sprintf("it has format %d and this version of provost reads up to %d", int(n), Format)
}

func (s *Store) upgrade(from int) error {
	step, ok := upgrades[from]
	if !ok {
		return fmt.Errorf("no way leads from format %d to %d", from, from+1)
	}
	if err := s.copyTo(fmt.Sprintf("%s.format-%d", s.path(), from)); err != nil {
		return fmt.Errorf("keep a copy first: %w", err)
	}
	s.o.Logger.Info("upgrade store", "from", from, "to", from+1)
	return s.db.Update(func(tx *bolt.Tx) error {
		if err := step(tx); err != nil {
			return err
		}
		return tx.Bucket(bMeta).Put(kFormat, []byte(strconv.Itoa(from+1)))
	})
}

func (s *Store) copyTo(path string) error {
	aside := path + ".new"
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = s.WriteTo(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(aside)
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return syncDir(s.o.Dir)
}

// WriteTo writes a copy of the store as it is at this moment; others go on writing meanwhile.
func (s *Store) WriteTo(w io.Writer) (n int64, err error) {
	err = s.view("copy store", func(tx *bolt.Tx) error {
		n, err = tx.WriteTo(w)
		return err
	})
	return n, err
}

// ID names this engine: made once with the store, the same after every restart.
func (s *Store) ID() string { return s.id }

// Stats tells what the store has done since it was opened.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	out := s.counts
	s.mu.Unlock()
	if st, err := os.Stat(s.path()); err == nil {
		out.FileBytes = st.Size()
	}
	return out
}

// Close waits for changes under way and gives the store free. Further calls fail.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.lead <- struct{}{} // the last commit is through; those still queued are refused by it or by us
	s.refuseQueue()
	<-s.lead
	err := s.db.Close()
	dropLock(s.lock)
	if err != nil {
		return s.problem("close store", err)
	}
	return nil
}

// view reads in one transaction. fn must not keep what it is given.
func (s *Store) view(doing string, fn func(*bolt.Tx) error) error {
	if err := guarded(func() error { return s.db.View(fn) }); err != nil {
		return s.problem(doing, err)
	}
	return nil
}

// problem says an error of bbolt or the system in the operator's words.
func (s *Store) problem(doing string, err error) error {
	var p *engine.Problem
	if errors.As(err, &p) {
		return err
	}
	path := s.path()
	var d damaged
	var n newer
	switch {
	case errors.As(err, &n):
		return engine.Problem{Code: engine.CodeStoreNewer, Exit: engine.ExitUsage, Doing: doing,
			Cause:  fmt.Sprintf("%s was written by a newer version of provost: %s", path, n),
			Remedy: "start the newer version again, or use another state directory (--state-dir)"}.Because(err)
	case errors.As(err, &d), errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum),
		errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrInvalidMapping):
		return engine.Problem{Code: engine.CodeStoreDamaged, Exit: engine.ExitUnexpected, Doing: doing,
			Cause: fmt.Sprintf("%s is damaged and was left as it is: %v", path, err),
			Remedy: "put back a copy of it, or move it away (mv " + fileName + " " + fileName + ".damaged) and start again: " +
				"journal, queued jobs and pauses in it are then gone; look at the disk first"}.Because(err)
	case errors.Is(err, bolterrors.ErrTimeout):
		return engine.Problem{Code: engine.CodeStateLocked, Exit: engine.ExitNotAllowed, Doing: doing,
			Cause:  fmt.Sprintf("another process holds %s open", path),
			Remedy: "end it, or use another state directory (--state-dir)"}.Because(err)
	case noSpace(err):
		return engine.Problem{Code: engine.CodeNoSpace, Exit: engine.ExitUnexpected, Doing: doing,
			Cause:  fmt.Sprintf("no space left for %s; nothing of this change was written", path),
			Remedy: "free some space and try again"}.Because(err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitUsage, Doing: doing,
			Cause:  fmt.Sprintf("the state directory cannot be used: %v", err),
			Remedy: "make it a directory that this user may write, or use another (--state-dir)"}.Because(err)
	case errors.Is(err, errClosed), errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return engine.Problem{Code: engine.CodeStopping, Exit: engine.ExitNotAllowed, Doing: doing,
			Cause: "the engine is stopping and has closed its store", Remedy: "try again when it is up"}.Because(err)
	}
	return engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: doing,
		Cause: fmt.Sprintf("%s: %v", path, err), Remedy: "look at the disk and at the engine's log"}.Because(err)
}

func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) || errors.Is(err, bolterrors.ErrMaxSizeReached)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum of key and value before the value: bbolt has none for its data pages.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(value)), sum), value...)
}

// open gives the value inside; it points into sealed.
func open(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, sealed[4:]) {
		return nil, damaged{fmt.Errorf("the checksum of record %x is wrong", key)}
	}
	return sealed[4:], nil
}

// put writes v as JSON under key.
func put(b *bolt.Bucket, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	return b.Put(key, seal(key, raw))
}

// get reads what put wrote; false when there is nothing under key.
func get(b *bolt.Bucket, key []byte, v any) (bool, error) {
	sealed := b.Get(key)
	if sealed == nil {
		return false, nil
	}
	return true, read(key, sealed, v)
}

func read(key, sealed []byte, v any) error {
	raw, err := open(key, sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return damaged{fmt.Errorf("record %x is not what was written: %w", key, err)}
	}
	return nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
