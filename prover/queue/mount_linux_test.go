package queue

import "golang.org/x/sys/unix"

func mountSmall(dir string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700") }
func unmount(dir string)          { unix.Unmount(dir, 0) }
