package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// firstRead is what a frame's stated length alone makes us allocate: a sender gets more memory only
// by sending more bytes.
const (
	firstRead = 64 << 10
	growth    = 16
)

// FrameTooLong means that a peer announced a message over the limit of its protocol.
type FrameTooLong struct{ Bytes, Limit uint64 }

// Error names both sizes.
func (e *FrameTooLong) Error() string {
	return fmt.Sprintf("the message announces %d bytes, at most %d are allowed", e.Bytes, e.Limit)
}

var errVarint = errors.New("the length of the message is not a shortest unsigned varint")

// memory is asked before bytes are allocated, may refuse, and is told when they are free again.
type memory interface {
	ReserveMemory(bytes int, priority uint8) error
	ReleaseMemory(bytes int)
}

// readFrame reads one length and that many bytes. The memory of what it returns stays reserved, of
// what it gave up after an error too: the stream's end frees it.
func readFrame(from io.Reader, limit int, mem memory) ([]byte, error) {
	r := bufio.NewReaderSize(from, 4<<10)
	n, err := readLength(r)
	if err != nil {
		return nil, err
	}
	if n > uint64(limit) {
		return nil, &FrameTooLong{Bytes: n, Limit: uint64(limit)}
	}
	size := min(int(n), firstRead)
	if err := mem.ReserveMemory(size, 255); err != nil {
		return nil, err
	}
	buf := make([]byte, size)
	for have := 0; ; {
		if _, err := io.ReadFull(r, buf[have:]); err != nil {
			return nil, cutOff(err)
		}
		have = len(buf)
		if have == int(n) {
			return buf, nil
		}
		size := min(int(n), growth*have)
		if err := mem.ReserveMemory(size, 255); err != nil {
			return nil, err
		}
		buf = append(make([]byte, 0, size), buf...)[:size]
		mem.ReleaseMemory(have)
	}
}

func readLength(r io.ByteReader) (uint64, error) {
	var n uint64
	for i := range binary.MaxVarintLen64 {
		b, err := r.ReadByte()
		if err != nil {
			if i > 0 {
				err = cutOff(err)
			}
			return 0, err
		}
		if i == 9 && b > 1 || i > 0 && b == 0 {
			return 0, errVarint
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errVarint
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeFrame writes a small frame in one piece, so that it makes one packet with the protocol's name.
func writeFrame(to io.Writer, msg []byte) error {
	head := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64), uint64(len(msg)))
	if len(msg) <= firstRead {
		_, err := to.Write(append(append(make([]byte, 0, len(head)+len(msg)), head...), msg...))
		return err
	}
	if _, err := to.Write(head); err != nil {
		return err
	}
	_, err := to.Write(msg)
	return err
}
