package filter

import (
	"fmt"
	"math"

	"golang.org/x/net/bpf"
)

// maxProgram is how many instructions the kernel takes (BPF_MAXINSNS).
const maxProgram = 4096

// cond makes code that goes to one of two places.
type cond func(a *assembler, yes, no label)

type label int

// line is an instruction, or a jump whose places are not known yet.
type line struct {
	in      bpf.Instruction
	cond    bool
	always  bool
	yes, no label
}

type assembler struct {
	link  Link
	far   bool
	lines []line
	at    []int // where labels are
}

func (a *assembler) reset(far bool) { a.far, a.lines, a.at = far, nil, nil }

func (a *assembler) label() label {
	a.at = append(a.at, -1)
	return label(len(a.at) - 1)
}

func (a *assembler) place(l label) { a.at[l] = len(a.lines) }

func (a *assembler) emit(in ...bpf.Instruction) {
	for _, i := range in {
		a.lines = append(a.lines, line{in: i})
	}
}

// test compares the accumulator with a number.
func (a *assembler) test(how bpf.JumpTest, with uint32, yes, no label) {
	a.branch(bpf.JumpIf{Cond: how, Val: with}, yes, no)
}

// testX compares it with register X.
func (a *assembler) testX(how bpf.JumpTest, yes, no label) { a.branch(bpf.JumpIfX{Cond: how}, yes, no) }

func (a *assembler) branch(in bpf.Instruction, yes, no label) {
	if !a.far {
		a.lines = append(a.lines, line{in: in, cond: true, yes: yes, no: no})
		return
	}
	first, second := a.label(), a.label()
	a.lines = append(a.lines, line{in: in, cond: true, yes: first, no: second})
	a.place(first)
	a.jump(yes)
	a.place(second)
	a.jump(no)
}

func (a *assembler) jump(to label) { a.lines = append(a.lines, line{always: true, yes: to}) }

// assemble puts numbers for the labels; false where one does not fit.
func (a *assembler) assemble() (program []bpf.RawInstruction, fits bool, err error) {
	if len(a.lines) > maxProgram {
		return nil, false, fmt.Errorf("it makes %d instructions, the kernel takes %d: ask for less", len(a.lines), maxProgram)
	}
	out := make([]bpf.Instruction, len(a.lines))
	for i, l := range a.lines {
		out[i] = l.in
		switch {
		case l.always:
			out[i] = bpf.Jump{Skip: uint32(a.at[l.yes] - i - 1)}
		case l.cond:
			yes, no := a.at[l.yes]-i-1, a.at[l.no]-i-1
			if max(yes, no) > math.MaxUint8 {
				return nil, false, nil
			}
			switch in := l.in.(type) {
			case bpf.JumpIf:
				in.SkipTrue, in.SkipFalse = uint8(yes), uint8(no)
				out[i] = in
			case bpf.JumpIfX:
				in.SkipTrue, in.SkipFalse = uint8(yes), uint8(no)
				out[i] = in
			}
		}
	}
	program, err = bpf.Assemble(out)
	return program, true, err
}

func and(all ...cond) cond {
	return func(a *assembler, yes, no label) {
		for i, c := range all {
			next := yes
			if i < len(all)-1 {
				next = a.label()
			}
			c(a, next, no)
			if next != yes {
				a.place(next)
			}
		}
	}
}

func or(all ...cond) cond {
	return func(a *assembler, yes, no label) {
		for i, c := range all {
			next := no
			if i < len(all)-1 {
				next = a.label()
			}
			c(a, yes, next)
			if next != no {
				a.place(next)
			}
		}
	}
}

func not(c cond) cond { return func(a *assembler, yes, no label) { c(a, no, yes) } }

func never(a *assembler, _, no label) { a.jump(no) }

// field compares bytes at a place, after they were masked, with a number.
func field(off uint32, size int, mask, want uint32) cond {
	return compare(off, size, mask, bpf.JumpEqual, want)
}

func compare(off uint32, size int, mask uint32, how bpf.JumpTest, with uint32) cond {
	return func(a *assembler, yes, no label) {
		a.emit(bpf.LoadAbsolute{Off: off, Size: size})
		if mask != math.MaxUint32 {
			a.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		a.test(how, with, yes, no)
	}
}

const all = math.MaxUint32 // no bit is masked
