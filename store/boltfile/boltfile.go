// Package boltfile reads what there is to read of a bbolt file that may be damaged.
//
// bbolt itself trusts its file: a page that is not what it should be makes it panic,
// loop, or read beyond its memory, and pages are not checksummed. Here every number
// is checked before it is used, nothing panics, and what is sound is told from what is
// not. The format is that of version 2 (go.etcd.io/bbolt, internal/common).
package boltfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

// Contents is what a file holds: top-level buckets by name, and in each the values by
// key. Buckets within buckets are not read.
type Contents struct {
	Buckets map[string]map[string][]byte
	// Problems are what is wrong with the file, a line each. With none bbolt may be
	// trusted with it.
	Problems []string
	// Transaction is the number of the last one; they count up.
	Transaction uint64
	// Before is, where there are problems, what the transaction before the last left,
	// if that is there without any; else nil.
	Before map[string]map[string][]byte
}

const (
	magic   = 0xED0CDAED
	version = 2

	pageHeader  = 16
	elementSize = 16
	metaSize    = 64
	bucketSize  = 16

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	// noFreelist marks a file that keeps none.
	noFreelist = ^uint64(0)
	// maxDepth is more than any tree of this format grows to.
	maxDepth = 64
	// maxProblems keeps the list readable.
	maxProblems = 20
)

// meta is one of the two roots of a file, which take turns.
type meta struct {
	pageSize             uint64
	root, freelist, high uint64
	txid                 uint64
}

// Read reads a whole file's bytes. It returns an error where there is nothing to be
// had: the file is no bbolt file, or neither of its roots is readable.
func Read(raw []byte) (Contents, error) {
	metas, bad := readMetas(raw)
	if len(metas) == 0 {
		return Contents{}, fmt.Errorf("%d bytes that are no bbolt file: %s", len(raw), bad[0])
	}
	newest := read(raw, metas[0])
	if len(newest.Problems) == 0 {
		return newest, nil
	}
	if len(metas) > 1 {
		if before := read(raw, metas[1]); len(before.Problems) == 0 {
			newest.Before = before.Buckets
		}
	}
	return newest, nil
}

// readMetas finds the roots that are sound, the newest first. A torn one is how a
// crash leaves a file, and no problem: bbolt goes by the other.
func readMetas(raw []byte) (metas []meta, bad []string) {
	for _, at := range metaOffsets(raw) {
		m, err := readMeta(raw, at)
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		metas = append(metas, m)
	}
	if len(metas) == 2 && metas[1].txid > metas[0].txid {
		metas[0], metas[1] = metas[1], metas[0]
	}
	return metas, bad
}

// metaOffsets are where the two roots are: the second is a page further, and how long
// a page is either of them says.
func metaOffsets(raw []byte) []uint64 {
	if m, err := readMeta(raw, 0); err == nil {
		return []uint64{0, m.pageSize}
	}
	for size := uint64(1024); size <= 65536; size *= 2 {
		if m, err := readMeta(raw, size); err == nil && m.pageSize == size {
			return []uint64{0, size}
		}
	}
	return []uint64{0}
}

func readMeta(raw []byte, at uint64) (m meta, err error) {
	if uint64(len(raw)) < at+pageHeader+metaSize {
		return m, fmt.Errorf("it ends before byte %d, where a root should be", at+pageHeader+metaSize)
	}
	if binary.NativeEndian.Uint16(raw[at+8:])&flagMeta == 0 {
		return m, fmt.Errorf("there is no root at byte %d", at)
	}
	b := raw[at+pageHeader : at+pageHeader+metaSize]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56]) // never fails
	switch {
	case binary.NativeEndian.Uint32(b) != magic:
		return m, fmt.Errorf("the root at byte %d does not say bbolt", at)
	case binary.NativeEndian.Uint32(b[4:]) != version:
		return m, fmt.Errorf("the root at byte %d is of version %d, not %d", at, binary.NativeEndian.Uint32(b[4:]), version)
	case binary.NativeEndian.Uint64(b[56:]) != sum.Sum64():
		return m, fmt.Errorf("the root at byte %d has a wrong checksum", at)
	}
	m = meta{
		pageSize: uint64(binary.NativeEndian.Uint32(b[8:])),
		root:     binary.NativeEndian.Uint64(b[16:]), freelist: binary.NativeEndian.Uint64(b[32:]),
		high: binary.NativeEndian.Uint64(b[40:]), txid: binary.NativeEndian.Uint64(b[48:]),
	}
	if m.pageSize < 512 || m.pageSize > 1<<20 {
		return m, fmt.Errorf("the root at byte %d has pages of %d bytes", at, m.pageSize)
	}
	return m, nil
}

// reader walks one root's tree.
type reader struct {
	raw  []byte
	meta meta
	// used are the pages that the tree has.
	used map[uint64]bool
	out  Contents
}

func read(raw []byte, m meta) Contents {
	r := &reader{raw: raw, meta: m, used: map[uint64]bool{0: true, 1: true}, out: Contents{Buckets: make(map[string]map[string][]byte), Transaction: m.txid}}
	if m.high > uint64(len(raw))/m.pageSize {
		r.problem("it has %d bytes, and should have %d pages of %d", len(raw), m.high, m.pageSize)
	}
	r.page(m.root, 0, func(name, value []byte, bucket bool) {
		if !bucket {
			r.problem("there is a value among the buckets, %q", name)
			return
		}
		r.bucket(string(name), value)
	})
	r.freelist()
	return r.out
}

func (r *reader) problem(format string, args ...any) {
	if len(r.out.Problems) < maxProblems {
		r.out.Problems = append(r.out.Problems, fmt.Sprintf(format, args...))
	}
}

// bucket reads a bucket of the top level: its header says where its tree is, or, with
// page 0, that its one leaf follows.
func (r *reader) bucket(name string, value []byte) {
	values := make(map[string][]byte)
	r.out.Buckets[name] = values
	keep := func(key, value []byte, bucket bool) {
		if bucket {
			r.problem("bucket %s has a bucket %q within", name, key)
			return
		}
		values[string(key)] = bytes.Clone(value)
	}
	if len(value) < bucketSize {
		r.problem("bucket %s has no root", name)
		return
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		r.page(root, 0, keep)
		return
	}
	if len(value) < bucketSize+pageHeader {
		r.problem("bucket %s is cut short", name)
		return
	}
	r.leaf(value[bucketSize:], "bucket "+name, keep)
}

// body returns the bytes of a page that nobody else has, with its overflow.
func (r *reader) body(id uint64) (body []byte, ok bool) {
	pages := min(r.meta.high, uint64(len(r.raw))/r.meta.pageSize)
	if id < 2 || id >= pages {
		r.problem("page %d is beyond the file's end", id)
		return nil, false
	}
	at := id * r.meta.pageSize
	over := uint64(binary.NativeEndian.Uint32(r.raw[at+12:]))
	switch got := binary.NativeEndian.Uint64(r.raw[at:]); {
	case got != id:
		r.problem("page %d says it is page %d", id, got)
		return nil, false
	case over >= pages-id:
		r.problem("page %d goes on beyond the file's end", id)
		return nil, false
	}
	for p := id; p <= id+over; p++ {
		if r.used[p] {
			r.problem("page %d is referred to twice", p)
			return nil, false
		}
		r.used[p] = true
	}
	return r.raw[at : at+(over+1)*r.meta.pageSize], true
}

// page walks a branch or reads a leaf.
func (r *reader) page(id uint64, depth int, keep func(key, value []byte, bucket bool)) {
	body, ok := r.body(id)
	if !ok {
		return
	}
	switch binary.NativeEndian.Uint16(body[8:]) {
	case flagLeaf:
		r.leaf(body, fmt.Sprintf("page %d", id), keep)
	case flagBranch:
		if depth == maxDepth {
			r.problem("page %d is %d levels deep", id, depth)
			return
		}
		r.branch(body, id, depth, keep)
	default:
		r.problem("page %d is of no known kind (%#x)", id, binary.NativeEndian.Uint16(body[8:]))
	}
}

func (r *reader) branch(body []byte, id uint64, depth int, keep func(key, value []byte, bucket bool)) {
	count := uint64(binary.NativeEndian.Uint16(body[10:]))
	if pageHeader+count*elementSize > uint64(len(body)) {
		r.problem("page %d has %d branches, more than it has room for", id, count)
		return
	}
	for i := range count {
		r.page(binary.NativeEndian.Uint64(body[pageHeader+i*elementSize+8:]), depth+1, keep)
	}
}

func (r *reader) leaf(body []byte, name string, keep func(key, value []byte, bucket bool)) {
	count := uint64(binary.NativeEndian.Uint16(body[10:]))
	if pageHeader+count*elementSize > uint64(len(body)) {
		r.problem("%s has %d values, more than it has room for", name, count)
		return
	}
	var last []byte
	for i := range count {
		at := pageHeader + i*elementSize
		e := body[at : at+elementSize]
		from := at + uint64(binary.NativeEndian.Uint32(e[4:]))
		keyEnd := from + uint64(binary.NativeEndian.Uint32(e[8:]))
		end := keyEnd + uint64(binary.NativeEndian.Uint32(e[12:]))
		if from > uint64(len(body)) || keyEnd > uint64(len(body)) || end > uint64(len(body)) {
			r.problem("%s: value %d is beyond its end", name, i)
			continue
		}
		key := body[from:keyEnd]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			r.problem("%s: key %q is out of order", name, key)
		}
		last = key
		keep(key, body[keyEnd:end], binary.NativeEndian.Uint32(e)&1 != 0)
	}
}

// freelist checks that what bbolt would take for free is free: it would write over
// what is not.
func (r *reader) freelist() {
	if r.meta.freelist == noFreelist {
		return
	}
	body, ok := r.body(r.meta.freelist)
	if !ok {
		return
	}
	if binary.NativeEndian.Uint16(body[8:]) != flagFreelist {
		r.problem("page %d is no list of free pages", r.meta.freelist)
		return
	}
	count, list := uint64(binary.NativeEndian.Uint16(body[10:])), body[pageHeader:]
	if count == 0xFFFF { // more than the header can say: the first number does
		if count, list = binary.NativeEndian.Uint64(list), list[8:]; count > uint64(len(list)) {
			count = uint64(len(list))
		}
	}
	if count*8 > uint64(len(list)) {
		r.problem("page %d lists more free pages than it has room for", r.meta.freelist)
		return
	}
	for i := range count {
		switch id := binary.NativeEndian.Uint64(list[i*8:]); {
		case id < 2 || id >= r.meta.high:
			r.problem("page %d is listed as free and is none of the file's", id)
		case r.used[id]:
			r.problem("page %d is listed as free and is in use", id)
		default:
			r.used[id] = true
		}
	}
}
