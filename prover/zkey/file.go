package zkey

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"app.provost/prover"
)

const maxSections = 32 // a groth16 key has 10, a witness 2

// section is a part of a file. Offset and length are in bytes and lie inside the file.
type section struct{ off, len int64 }

// container is the envelope that keys and witnesses share: a magic word, a version and a table of sections.
type container struct {
	r        io.ReaderAt
	closer   io.Closer // nil if the caller owns r
	size     int64
	name     string // for messages: "key c.zkey"
	version  uint32
	sections map[uint32]section
}

// errMagic leaves the container with the name of the file and no more.
var errMagic = errors.New("no such magic word")

func openFile(path string) (*os.File, int64, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file; give the path of a file", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

func readContainer(r io.ReaderAt, size int64, name, magic string) (*container, error) {
	c := &container{r: r, size: size, name: name, sections: make(map[uint32]section)}
	var head [12]byte
	if size < int64(len(magic)) {
		return nil, errMagic
	}
	if err := c.readAt(head[:min(size, int64(len(head)))], 0); err != nil {
		return nil, err
	}
	if string(head[:4]) != magic {
		return nil, errMagic
	}
	if size < int64(len(head)) {
		return nil, c.damaged("it ends in its header")
	}
	c.version = binary.LittleEndian.Uint32(head[4:])
	count := binary.LittleEndian.Uint32(head[8:])
	if count > maxSections {
		return nil, c.damaged(fmt.Sprintf("it claims %d sections", count))
	}
	pos := int64(len(head))
	for i := range count {
		if size-pos < int64(len(head)) {
			return nil, c.damaged(fmt.Sprintf("it ends before section %d of %d", i+1, count))
		}
		if err := c.readAt(head[:], pos); err != nil {
			return nil, err
		}
		pos += int64(len(head))
		id := binary.LittleEndian.Uint32(head[:])
		length := binary.LittleEndian.Uint64(head[4:])
		if length > uint64(size-pos) {
			return nil, c.damaged(fmt.Sprintf("section %d has %d bytes, the file only %d more", id, length, size-pos))
		}
		if _, twice := c.sections[id]; twice {
			return nil, c.damaged(fmt.Sprintf("section %d appears twice", id))
		}
		c.sections[id] = section{off: pos, len: int64(length)}
		pos += int64(length)
	}
	if pos != size {
		return nil, c.damaged(fmt.Sprintf("%d bytes follow the last section", size-pos))
	}
	return c, nil
}

func (c *container) damaged(cause string) error {
	return &refusal{what: c.name, kind: ErrDamaged, cause: cause, remedy: "copy the file again from its source"}
}

func (c *container) unsupported(cause, remedy string) error {
	return &refusal{what: c.name, kind: ErrUnsupported, cause: cause, remedy: remedy}
}

// want is the section with this id if it has exactly this many bytes.
func (c *container) want(id uint32, what string, bytes int64) (section, error) {
	s, ok := c.sections[id]
	if !ok {
		return s, c.damaged(fmt.Sprintf("section %d (%s) is missing", id, what))
	}
	if s.len != bytes {
		return s, c.damaged(fmt.Sprintf("section %d (%s) has %d bytes instead of %d", id, what, s.len, bytes))
	}
	return s, nil
}

// readAt fills b. The table of sections was checked against the size, so an end of file means that the file has changed.
func (c *container) readAt(b []byte, off int64) error {
	n, err := c.r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return &refusal{what: c.name, kind: ErrDamaged, cause: "it became shorter while it was read",
			remedy: "do not change files of jobs that run"}
	default:
		return fmt.Errorf("read %s: %w", c.name, err)
	}
}

// digest reads the whole file.
func (c *container) digest(ctx context.Context) (d prover.Digest, err error) {
	h := sha256.New()
	buf := make([]byte, 1<<18)
	for off := int64(0); off < c.size; {
		if ctx.Err() != nil {
			return d, context.Cause(ctx)
		}
		b := buf[:min(int64(len(buf)), c.size-off)]
		if err := c.readAt(b, off); err != nil {
			return d, err
		}
		h.Write(b)
		off += int64(len(b))
	}
	h.Sum(d[:0])
	return d, nil
}

func (c *container) close() error {
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}
