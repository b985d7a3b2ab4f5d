//go:build linux && amd64

package e2e

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// skew sets the wall clock of one running process ahead by whole seconds, or behind; nobody else's
// clock changes. Programs read the time through a function that the kernel maps into them (vDSO). In
// the process it is replaced by one that asks the kernel and adds the seconds; 0 makes it right again.
func skew(t testing.TB, pid int, seconds int32) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	eventually(t, 10*time.Second, "the process stands still", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !bytes.Contains(stat, []byte(") T ")) {
			err = fmt.Errorf("%s", stat)
		}
		return err
	})
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs to write into its own child: %v", err)
	}
	defer mem.Close()
	at := clockFunction(t, pid, mem)
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi
		0x75, 0x07, // jne: not CLOCK_REALTIME
		0x48, 0x81, 0x06, 0, 0, 0, 0, // add qword [rsi], seconds
		0xc3, // ret
	}
	binary.LittleEndian.PutUint32(code[14:], uint32(seconds))
	if _, err := mem.WriteAt(code, at); err != nil {
		t.Skipf("the kernel does not let its code be replaced in a process: %v", err)
	}
}

// clockFunction is where the process has clock_gettime of the vDSO.
func clockFunction(t testing.TB, pid int, mem *os.File) int64 {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		if !strings.HasSuffix(lines.Text(), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, to-from)
		if _, err := mem.ReadAt(raw, from); err != nil {
			t.Fatal(err)
		}
		image, err := elf.NewFile(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		symbols, err := image.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range symbols {
			if s.Name == "__vdso_clock_gettime" && s.Size >= 32 {
				return from + int64(s.Value)
			}
		}
	}
	t.Skip("the process has no clock_gettime of a vDSO that could be replaced")
	return 0
}
