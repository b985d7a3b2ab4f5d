package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"app.provost/prover"
)

// hugepages reads every pool: the kernel's Documentation/admin-guide/mm/hugetlbpage.rst
// names the files. A kernel without hugepages has no pools, which is no problem.
func (r *reader) hugepages(context.Context) (*[]prover.HugePool, error) {
	h := r.h
	pools := []prover.HugePool{}
	sizes, err := h.poolSizes("sys/kernel/mm/hugepages")
	if err != nil {
		return nil, err
	}
	nodes, err := h.numaNodes()
	var problems []error
	if err != nil {
		problems = append(problems, err)
	}
	for _, kib := range sizes {
		dir := fmt.Sprintf("sys/kernel/mm/hugepages/hugepages-%dkB", kib)
		p := prover.HugePool{PageKiB: kib, NUMA: []prover.NUMAPool{}}
		var errs [4]error
		p.Total, errs[0] = h.number(dir, "nr_hugepages")
		p.Free, errs[1] = h.number(dir, "free_hugepages")
		p.Reserved, errs[2] = h.number(dir, "resv_hugepages")
		p.Surplus, errs[3] = h.number(dir, "surplus_hugepages")
		if err := oneLine(slices.DeleteFunc(errs[:], func(err error) bool { return err == nil })); err != nil {
			problems = append(problems, fmt.Errorf("read the pool of %d KiB pages: %w", kib, err))
			continue
		}
		for _, n := range nodes {
			part := prover.NUMAPool{Node: n}
			dir := fmt.Sprintf("sys/devices/system/node/node%d/hugepages/hugepages-%dkB", n, kib)
			part.Total, err = h.number(dir, "nr_hugepages")
			if errors.Is(err, fs.ErrNotExist) {
				continue // a node with processors and no memory has no pools
			}
			if err == nil {
				part.Free, err = h.number(dir, "free_hugepages")
			}
			if err == nil {
				part.Surplus, err = h.number(dir, "surplus_hugepages")
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("read the pool of %d KiB pages on NUMA node %d: %w", kib, n, err))
				continue
			}
			p.NUMA = append(p.NUMA, part)
		}
		pools = append(pools, p)
	}
	if len(pools) == 0 && len(problems) > 0 {
		return nil, oneLine(problems)
	}
	return &pools, oneLine(problems)
}

// poolSizes lists the page sizes in KiB, smallest first.
func (h *Host) poolSizes(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(h.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list hugepage pools: %w", err)
	}
	var out []uint64
	for _, e := range entries {
		s, ok := strings.CutPrefix(e.Name(), "hugepages-")
		s, kb := strings.CutSuffix(s, "kB")
		if n, err := strconv.ParseUint(s, 10, 64); ok && kb && err == nil && n > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// numaNodes lists the kernel's node numbers; none on a kernel without NUMA.
func (h *Host) numaNodes() ([]int, error) {
	entries, err := os.ReadDir(h.path("sys/devices/system/node"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list NUMA nodes: %w", err)
	}
	var out []int
	for _, e := range entries {
		s, ok := strings.CutPrefix(e.Name(), "node")
		if n, err := strconv.Atoi(s); ok && err == nil && n >= 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (h *Host) number(dir, file string) (uint64, error) {
	b, err := h.read(dir, file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s/%s holds no number", dir, file)
	}
	return n, nil
}
