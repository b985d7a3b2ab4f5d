package guard

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"app.provost/cluster"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Format is the version of the tree that this package writes.
const Format = 1

// FileName is the name of the file in its directory.
const FileName = "guard.db"

var (
	bMeta  = []byte("meta")
	bKeys  = []byte("keys")
	bMarks = []byte("marks")
	bLog   = []byte("log")

	kFormat   = []byte("format")
	kRoot     = []byte("genesis_validators_root")
	kInstance = []byte("instance")
	kCreated  = []byte("created")
	kKeys     = []byte("keys")
)

// Code says what stands in the way. The zero value is none.
type Code string

// Codes.
const (
	CodeMissing    Code = "guard.missing"
	CodeLocked     Code = "guard.locked"
	CodeDamaged    Code = "guard.damaged"
	CodeNewer      Code = "guard.newer"
	CodeOtherChain Code = "guard.other-chain"
	CodeNoSpace    Code = "guard.no-space"
	CodeUnwritable Code = "guard.unwritable"
	CodeFailed     Code = "guard.failed"
	CodeBusy       Code = "guard.busy"
	CodeClosed     Code = "guard.closed"
	CodeFarFuture  Code = "guard.far-future"
	CodeForeign    Code = "guard.foreign-file" // an interchange file that cannot be taken
)

var remedies = map[Code]string{
	CodeMissing:    "put the file back as this node left it, or restore the node from a backup (provost node import); with neither, move node.json beside it away too and start without --keys-never-signed: then, as after a restore, nothing is signed for two epochs, since an empty file would allow what was signed before",
	CodeLocked:     "another process holds it: end that one; two nodes with one set of keys can get validators slashed",
	CodeDamaged:    "nothing is signed and the file was left as it is: look at the disk; put back no old copy of it (it has forgotten the newest votes); restore the node from a backup (provost node import), or move it and node.json beside it away and start without --keys-never-signed: either way nothing is signed for two epochs",
	CodeNewer:      "start the newer version again: this one cannot know what it recorded",
	CodeOtherChain: "start with the directory and the beacon node that belong together",
	CodeNoSpace:    "nothing is signed until there is: free some space",
	CodeUnwritable: "make its directory one that this user may write, on a disk that is writable",
	CodeFailed:     "nothing is signed any more: look at the disk, then restart",
	CodeBusy:       "the disk is slow: look at what else writes to it",
	CodeClosed:     "the node is stopping",
	CodeFarFuture:  "check the clock of this machine and where the numbers come from: they would silence the validator",
	CodeForeign:    "get a whole EIP-3076 interchange file of version 5 of the same chain",
}

// Error is an error with a code; its text ends with the remedy.
type Error struct {
	Code Code
	File string
	Err  error
}

// Error names file, cause and remedy.
func (e *Error) Error() string {
	return fmt.Sprintf("slashing protection %s: %v: %s", e.File, e.Err, e.Remedy())
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Remedy says what to do.
func (e *Error) Remedy() string { return remedies[e.Code] }

// Options says where the file is and for which chain. All but Create and MaxBytes are needed.
type Options struct {
	Dir                   string // made with mode 0700 when Create is set
	GenesisValidatorsRoot cluster.Root
	Clock                 cluster.SlotClock
	// Create makes a file when there is none. Without it a missing file is an error: a node that has
	// signed must not begin with an empty one.
	Create bool
	// MaxBytes bounds the file; 0: only the disk does.
	MaxBytes int

	// look opens the file of any chain for reading only: see Read.
	look bool
}

func (o Options) path() string { return filepath.Join(o.Dir, FileName) }

func (g *Guard) path() string { return g.o.path() }

func (g *Guard) fileBytes() int64 {
	st, err := os.Stat(g.path())
	if err != nil {
		return 0
	}
	return st.Size()
}

// Open reads the whole file and checks all of it before anything may be signed. Errors are *Error.
func Open(o Options) (*Guard, error) {
	if o.Dir == "" || o.Clock.SlotDuration <= 0 || o.Clock.SlotsPerEpoch == 0 {
		return nil, errors.New("open slashing protection: the directory and the chain's clock are needed")
	}
	g := &Guard{o: o, turn: make(chan struct{}, 1), byKey: map[cluster.PubKey]uint32{}}
	if err := g.open(); err != nil {
		if g.db != nil {
			g.db.Close()
		}
		return nil, g.problem(err)
	}
	return g, nil
}

func (g *Guard) open() error {
	if _, err := os.Lstat(g.path()); errors.Is(err, os.ErrNotExist) {
		if !g.o.Create {
			return &Error{Code: CodeMissing, File: g.path(), Err: errors.New("there is no such file")}
		}
		if err := create(g.o); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if _, err := bothMetas(g.path()); err != nil {
		return err
	}
	db, err := openFile(g.path(), g.o.MaxBytes, g.o.look)
	if err != nil {
		return err
	}
	g.db = db
	return guarded(func() error { return db.View(g.read) })
}

// create makes the file aside and renames it, so that a guard.db that is empty is always damage.
func create(o Options) error {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	aside := o.path() + ".new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := openFile(aside, o.MaxBytes, false)
	if err != nil {
		os.Remove(aside)
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bMeta, bKeys, bMarks, bLog} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		var id [16]byte
		rand.Read(id[:])
		m := tx.Bucket(bMeta)
		put := func(k, v []byte) error { return m.Put(k, seal(k, v)) }
		return errors.Join(put(kFormat, []byte(strconv.Itoa(Format))), put(kRoot, o.GenesisValidatorsRoot[:]), put(kInstance, id[:]),
			put(kCreated, []byte(time.Now().UTC().Format(time.RFC3339))), put(kKeys, []byte{0}))
	})
	// A second transaction fills the second of bbolt's two meta pages with what bothMetas expects.
	if err == nil {
		err = db.Update(func(*bolt.Tx) error { return nil })
	}
	if err = errors.Join(err, db.Close()); err != nil {
		os.Remove(aside)
		return err
	}
	// Link, unlike rename, never puts an empty file over one that another process made meanwhile.
	if err := os.Link(aside, o.path()); err != nil {
		os.Remove(aside)
		return err
	}
	if err := os.Remove(aside); err != nil {
		return err
	}
	d, err := os.Open(o.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// bothMetas checks the two meta pages of a bbolt file. bbolt is content with one, and goes back to
// the transaction before the last when the newer one is damaged: a vote would be forgotten. A page
// is written within one sector, so a crash leaves it old or new. It returns the number of the newest
// transaction.
func bothMetas(path string) (newest uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const (
		pageHead = 16
		magic    = 0xED0CDAED
		metaSize = 64
		sumAt    = 56
		pageSize = 8  // offset of the page size in the meta
		pagesAt  = 40 // how many pages the file has
		countAt  = 48 // of transactions
		minPage  = 512
		maxPage  = 64 << 10
	)
	read := func(at int64) ([]byte, error) {
		buf := make([]byte, pageHead+metaSize)
		if _, err := f.ReadAt(buf, at); err != nil {
			return nil, damaged{fmt.Errorf("it was cut short: %w", err)}
		}
		meta := buf[pageHead:]
		if buf[8] != 4 || buf[9] != 0 { // the page's kind: bbolt believes it
			return nil, damaged{fmt.Errorf("the page at %d is no meta page", at)}
		}
		sum := fnv.New64a()
		sum.Write(meta[:sumAt])
		if binary.NativeEndian.Uint32(meta) != magic || binary.NativeEndian.Uint64(meta[sumAt:]) != sum.Sum64() {
			return nil, damaged{fmt.Errorf("the meta page at %d is wrong", at)}
		}
		return meta, nil
	}
	meta, err := read(0)
	if err != nil {
		return 0, err
	}
	size := binary.NativeEndian.Uint32(meta[pageSize:])
	if size < minPage || size > maxPage {
		return 0, damaged{fmt.Errorf("its page size is %d", size)}
	}
	other, err := read(int64(size))
	if err != nil {
		return 0, err
	}
	if binary.NativeEndian.Uint64(other[countAt:]) > binary.NativeEndian.Uint64(meta[countAt:]) {
		meta = other
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if pages := binary.NativeEndian.Uint64(meta[pagesAt:]); pages > uint64(st.Size())/uint64(size) {
		return 0, damaged{fmt.Errorf("it has %d bytes and should have %d pages of %d: it was cut short", st.Size(), pages, size)}
	}
	return binary.NativeEndian.Uint64(meta[countAt:]), nil
}

// openFile opens a bbolt file for this process alone; to look at it, with others that look.
func openFile(path string, maxBytes int, look bool) (db *bolt.DB, err error) {
	var file *os.File
	err = guarded(func() error {
		var err error
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:      200 * time.Millisecond,
			FreelistType: bolt.FreelistMapType,
			MaxSize:      maxBytes,
			ReadOnly:     look, PreLoadFreelist: look,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				if !strings.HasSuffix(name, ".new") { // only a new file, made aside, may be created
					flag &^= os.O_CREATE
				}
				f, err := os.OpenFile(name, flag, mode)
				if err == nil && file == nil {
					file = f
				}
				return f, err
			},
		})
		return err
	})
	if err == nil {
		return db, nil
	}
	if file != nil { // after a panic bbolt has let go of nothing, and its mapping keeps the lock
		_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
		file.Close()
	}
	var pe *fs.PathError
	var no syscall.Errno
	if !errors.As(err, &pe) && !errors.As(err, &no) && !errors.Is(err, bolterrors.ErrTimeout) && !errors.Is(err, bolterrors.ErrMaxSizeReached) {
		err = damaged{err} // not the system's word, so the content's
	}
	return nil, err
}

// guarded turns a panic of bbolt on a damaged page, and a fault in the mapping of a file that was
// cut short, into an error.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged{fmt.Errorf("%v", r)}
		}
	}()
	return fn()
}

type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

// read takes the whole file into memory and believes nothing of it unchecked.
func (g *Guard) read(tx *bolt.Tx) error {
	if st, err := os.Stat(g.path()); err != nil {
		return err
	} else if st.Size() < tx.Size() {
		return damaged{fmt.Errorf("the file has %d bytes and should have %d or more: it was cut short", st.Size(), tx.Size())}
	}
	meta, keys, marks, log := tx.Bucket(bMeta), tx.Bucket(bKeys), tx.Bucket(bMarks), tx.Bucket(bLog)
	if meta == nil {
		return damaged{errors.New("it carries no format number: another program's file")}
	}
	get := func(k []byte) ([]byte, error) { return unseal(k, meta.Get(k)) }
	raw, err := get(kFormat)
	if err != nil {
		return err
	}
	format, err := strconv.Atoi(string(raw))
	if err != nil || format < 1 {
		return damaged{fmt.Errorf("its format number is %q", raw)}
	}
	if format > Format {
		return &Error{Code: CodeNewer, File: g.path(), Err: fmt.Errorf("it has format %d and this version reads up to %d", format, Format)}
	}
	if keys == nil || marks == nil || log == nil {
		return damaged{errors.New("a part of it is missing")}
	}
	root, err := get(kRoot)
	if err != nil {
		return err
	}
	if len(root) != len(cluster.Root{}) {
		return damaged{errors.New("its genesis validators root is cut off")}
	}
	if g.o.look {
		g.o.GenesisValidatorsRoot = cluster.Root(root)
	}
	if cluster.Root(root) != g.o.GenesisValidatorsRoot {
		return &Error{Code: CodeOtherChain, File: g.path(), Err: fmt.Errorf("it belongs to the chain with genesis validators root %s, this node follows %s", cluster.Root(root), g.o.GenesisValidatorsRoot)}
	}
	id, err := get(kInstance)
	if err != nil {
		return err
	}
	if copy(g.instance[:], id) != len(g.instance) {
		return damaged{errors.New("its instance id is cut off")}
	}
	raw, err = get(kKeys)
	if err != nil {
		return err
	}
	count, n := binary.Uvarint(raw)
	if n <= 0 {
		return damaged{errors.New("its number of keys cannot be read")}
	}
	if err := g.readKeys(keys, marks, count); err != nil {
		return err
	}
	if err := g.readLog(log); err != nil {
		return err
	}
	// A page that claims to be longer than the file would keep Check busy for hours.
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
	// All pages that matter were touched, so Check, which works in a goroutine of its own where a
	// fault could not be caught, stays inside the file.
	var first error
	for err := range tx.Check() {
		if first == nil {
			first = damaged{err}
		}
	}
	return first
}

func (g *Guard) readKeys(keys, marks *bolt.Bucket, count uint64) error {
	err := keys.ForEach(func(k, v []byte) error {
		pub, err := unseal(k, v)
		if err != nil {
			return err
		}
		if len(k) != 4 || binary.BigEndian.Uint32(k) != uint32(len(g.records)) || len(pub) != len(cluster.PubKey{}) {
			return damaged{fmt.Errorf("key %x is missing or out of order", k)}
		}
		if _, twice := g.byKey[cluster.PubKey(pub)]; twice {
			return damaged{fmt.Errorf("a key stands twice")}
		}
		g.byKey[cluster.PubKey(pub)] = uint32(len(g.records))
		g.records = append(g.records, &record{pub: cluster.PubKey(pub)})
		return nil
	})
	if err != nil {
		return err
	}
	if uint64(len(g.records)) != count {
		return damaged{fmt.Errorf("it has %d keys and should have %d", len(g.records), count)}
	}
	found := 0
	err = marks.ForEach(func(k, v []byte) error {
		raw, err := unseal(k, v)
		if err != nil {
			return err
		}
		if len(k) != 4 || binary.BigEndian.Uint32(k) >= uint32(len(g.records)) {
			return damaged{fmt.Errorf("marks %x belong to no key", k)}
		}
		m, err := decodeMarks(raw)
		if err != nil {
			return damaged{err}
		}
		g.records[binary.BigEndian.Uint32(k)].marks = m
		found++
		return nil
	})
	if err == nil && found != len(g.records) { // every key has marks from its beginning
		err = damaged{fmt.Errorf("%d keys have marks and %d should have", found, len(g.records))}
	}
	return err
}

func (g *Guard) readLog(log *bolt.Bucket) error {
	g.next = log.Sequence() + 1
	expect := uint64(0)
	err := log.ForEach(func(k, v []byte) error {
		raw, err := unseal(k, v)
		if err != nil {
			return err
		}
		if len(k) != 8 || expect != 0 && binary.BigEndian.Uint64(k) != expect {
			return damaged{fmt.Errorf("batch %d of the log is missing", expect)}
		}
		b, err := decodeBatch(raw, len(g.records))
		if err != nil {
			return damaged{err}
		}
		if expect == 0 {
			g.first, g.oldest = binary.BigEndian.Uint64(k), b.newest(g.o.Clock)
		}
		expect = binary.BigEndian.Uint64(k) + 1
		return g.replay(b)
	})
	if err != nil {
		return err
	}
	if expect == 0 {
		g.first, expect = 1, 1 // the newest batch is never pruned
	}
	if expect != g.next {
		return damaged{fmt.Errorf("the log ends before batch %d and should end before %d", expect, g.next)}
	}
	return nil
}

// replay takes a batch of the log into memory. Marks may be above it, since they were raised later.
func (g *Guard) replay(b *batch) error {
	for _, v := range b.votes {
		for _, n := range v.keys {
			r := g.records[n]
			if len(r.votes) > 0 && r.votes[len(r.votes)-1].target >= v.target {
				return damaged{errors.New("votes in the log are out of order")}
			}
			g.note(r, &v.vote, nil)
		}
	}
	for _, p := range b.blocks {
		for _, n := range p.keys {
			r := g.records[n]
			if len(r.blocks) > 0 && r.blocks[len(r.blocks)-1].slot >= p.slot {
				return damaged{errors.New("blocks in the log are out of order")}
			}
			g.note(r, nil, &p.proposal)
		}
	}
	return nil
}

// pruneMost bounds what one commit prunes, so that none takes long.
const pruneMost = 8

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func keyNumber(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// commit makes a batch durable. After an error nothing of it is recorded, as far as can be known;
// where that cannot be known the guard refuses everything from then on.
func (g *Guard) commit(b *batch) error {
	begin := time.Now()
	first, oldest := g.first, g.oldest
	err := g.update(func(tx *bolt.Tx) error {
		log := tx.Bucket(bLog)
		log.FillPercent = 0.95 // numbers only grow
		n, err := log.NextSequence()
		if err != nil {
			return err
		}
		if n != g.next {
			return damaged{fmt.Errorf("the next batch is %d in the file and %d in memory", n, g.next)}
		}
		key := number(n)
		if err := log.Put(key, seal(key, encodeBatch(b))); err != nil {
			return err
		}
		if first == n { // the first of all
			oldest = b.newest(g.o.Clock)
		}
		first, oldest, err = g.prune(tx, first, oldest)
		return err
	})
	if err != nil {
		return err
	}
	g.first, g.oldest = first, oldest
	g.next++
	g.stats.Commits++
	g.stats.Slowest = max(g.stats.Slowest, time.Since(begin))
	return nil
}

// prune drops batches older than Keep epochs. Marks that no later batch carries are put down.
func (g *Guard) prune(tx *bolt.Tx, first uint64, oldest cluster.Epoch) (uint64, cluster.Epoch, error) {
	log, marks := tx.Bucket(bLog), tx.Bucket(bMarks)
	load := func(n uint64) (*batch, error) {
		raw, err := unseal(number(n), log.Get(number(n)))
		if err != nil {
			return nil, err
		}
		b, err := decodeBatch(raw, len(g.records))
		if err != nil {
			return nil, damaged{err}
		}
		return b, nil
	}
	for range pruneMost {
		if oldest+Keep >= g.newest || first >= g.next {
			break
		}
		b, err := load(first)
		if err != nil {
			return 0, 0, err
		}
		last := map[uint32]bool{}
		for _, v := range b.votes {
			for _, n := range v.keys {
				if r := g.records[n]; len(r.votes) == 0 || r.votes[len(r.votes)-1].target <= v.target {
					last[n] = true
				}
			}
		}
		for _, p := range b.blocks {
			for _, n := range p.keys {
				if r := g.records[n]; len(r.blocks) == 0 || r.blocks[len(r.blocks)-1].slot <= p.slot {
					last[n] = true
				}
			}
		}
		for n := range last {
			if err := marks.Put(keyNumber(n), seal(keyNumber(n), encodeMarks(g.records[n].marks))); err != nil {
				return 0, 0, err
			}
		}
		if err := log.Delete(number(first)); err != nil {
			return 0, 0, err
		}
		first++
		if b, err = load(first); err != nil {
			return 0, 0, err
		}
		oldest = b.newest(g.o.Clock)
	}
	return first, oldest, nil
}

// raise lifts marks and registers the keys that are not known, in one transaction.
func (g *Guard) raise(marks map[cluster.PubKey]Marks) error {
	type change struct {
		n     uint32
		pub   cluster.PubKey
		marks Marks
		fresh bool
	}
	var changes []change
	count := uint32(len(g.records))
	for _, pub := range slices.SortedFunc(maps.Keys(marks), func(a, b cluster.PubKey) int { return bytes.Compare(a[:], b[:]) }) {
		n, known := g.byKey[pub]
		switch {
		case !known:
			changes = append(changes, change{count, pub, Marks{}.raise(marks[pub]), true})
			count++
		case g.records[n].marks.raise(marks[pub]) != g.records[n].marks:
			changes = append(changes, change{n, pub, g.records[n].marks.raise(marks[pub]), false})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	err := g.update(func(tx *bolt.Tx) error {
		for _, c := range changes {
			k := keyNumber(c.n)
			if c.fresh {
				if err := tx.Bucket(bKeys).Put(k, seal(k, c.pub[:])); err != nil {
					return err
				}
			}
			if err := tx.Bucket(bMarks).Put(k, seal(k, encodeMarks(c.marks))); err != nil {
				return err
			}
		}
		return tx.Bucket(bMeta).Put(kKeys, seal(kKeys, binary.AppendUvarint(nil, uint64(count))))
	})
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.fresh {
			g.byKey[c.pub] = c.n
			g.records = append(g.records, &record{pub: c.pub})
		}
		g.records[c.n].marks = c.marks
	}
	g.stats.Commits++
	return nil
}

// update runs one durable transaction. A write that found no space is taken back whole and may be
// tried again; after any other error, a failed fsync above all, nobody knows what the disk holds.
func (g *Guard) update(fn func(*bolt.Tx) error) error {
	err := guarded(func() error { return g.db.Update(fn) })
	if err == nil {
		return nil
	}
	if noSpace(err) {
		return &Error{Code: CodeNoSpace, File: g.path(), Err: err}
	}
	g.failed = &Error{Code: CodeFailed, File: g.path(), Err: err}
	return g.failed
}

// noSpace is true only for writes: an fsync that failed for want of space has lost what it failed on.
func noSpace(err error) bool {
	if errors.Is(err, bolterrors.ErrMaxSizeReached) {
		return true
	}
	var pe *fs.PathError
	return errors.As(err, &pe) && (pe.Op == "write" || pe.Op == "truncate") && full(err)
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// problem gives an error of opening its code.
func (g *Guard) problem(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	code := CodeFailed
	var d damaged
	switch {
	case errors.As(err, &d), errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum),
		errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrInvalidMapping):
		code = CodeDamaged
	case errors.Is(err, bolterrors.ErrTimeout):
		code = CodeLocked
	case full(err), errors.Is(err, bolterrors.ErrMaxSizeReached):
		code = CodeNoSpace
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrExist), errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		code = CodeUnwritable
	}
	return &Error{Code: code, File: g.path(), Err: err}
}
