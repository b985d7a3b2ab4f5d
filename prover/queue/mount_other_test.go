//go:build !linux

package queue

import "errors"

func mountSmall(string) error { return errors.ErrUnsupported }
func unmount(string)          {}
