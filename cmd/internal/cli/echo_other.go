//go:build !linux && !darwin

package cli

import "errors"

// hideEcho is not known here: secrets come from files.
func hideEcho(int) (func(), error) { return nil, errors.ErrUnsupported }
