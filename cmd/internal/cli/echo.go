//go:build linux || darwin

package cli

import "golang.org/x/sys/unix"

// hideEcho stops a terminal from showing what is typed, until show is called. Lines are
// read as ever, so that ctrl+c, ctrl+d and backspace do what they do elsewhere.
func hideEcho(fd int) (show func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, setTermios, &quiet); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(fd, setTermios, before) }, nil
}
