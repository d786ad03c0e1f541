package filter

import (
	"fmt"
	"net/netip"
	"slices"
)

// maxDepth is how deep an expression may be nested.
const maxDepth = 200

type parser struct {
	tokens []token
	at     int
	depth  int
	link   Link
	lookup func(string) []netip.Addr
	// last are the qualifiers that hold for a name without any.
	last qualifiers
}

// qualifiers say what a name is of.
type qualifiers struct{ proto, dir, kind string }

func (p *parser) peek() token { return p.ahead(0) }

func (p *parser) ahead(n int) token {
	if p.at+n < len(p.tokens) {
		return p.tokens[p.at+n]
	}
	return token{}
}

// takes goes on where the next token is one of these.
func (p *parser) takes(texts ...string) bool {
	t := p.peek()
	if t.quoted || t.kind != word && t.kind != sign || !slices.Contains(texts, t.text) {
		return false
	}
	p.at++
	return true
}

func (p *parser) whole() (cond, error) {
	c, err := p.expression()
	if err == nil && p.at < len(p.tokens) {
		return nil, fmt.Errorf("%q is not expected: want and, or, or the end", p.peek().text)
	}
	return c, err
}

// expression: and and or bind alike, from left to right.
func (p *parser) expression() (cond, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	c, err := p.term()
	for err == nil {
		var next cond
		switch {
		case p.takes("and", "&&"):
			if next, err = p.term(); err == nil {
				c = and(c, next)
			}
		case p.takes("or", "||"):
			if next, err = p.term(); err == nil {
				c = or(c, next)
			}
		default:
			return c, nil
		}
	}
	return nil, err
}

func (p *parser) term() (cond, error) {
	negated := false
	for p.takes("not", "!") {
		negated = !negated
	}
	c, err := p.primitive()
	if err == nil && negated {
		c = not(c)
	}
	return c, err
}

func (p *parser) primitive() (cond, error) {
	if p.arithmetic() {
		return p.relation()
	}
	if p.peek().kind == sign && p.peek().text == "(" {
		start := p.at
		c, err := p.parenthesis()
		if err != nil || !p.operator() {
			return c, err
		}
		p.at = start // it was a number's
		return p.relation()
	}
	return p.qualified()
}

func (p *parser) parenthesis() (cond, error) {
	start := p.at
	p.at++
	c, err := p.expression()
	if err == nil && !p.takes(")") {
		err = fmt.Errorf("a ) is missing")
	}
	if err != nil {
		failed := p.at
		p.at = start
		if c, e := p.relation(); e == nil {
			return c, nil
		}
		p.at = failed
	}
	return c, err
}

// operator: what comes belongs to numbers.
func (p *parser) operator() bool { return p.isOperator(p.peek()) }

func (p *parser) isOperator(t token) bool {
	return t.kind == sign && !slices.Contains([]string{"(", ")", "[", "]", "!", "&&", "||", ":"}, t.text)
}

// arithmetic: what comes is a number, or makes one.
func (p *parser) arithmetic() bool {
	t, next := p.peek(), p.ahead(1)
	switch t.kind {
	case number:
		return p.isOperator(next)
	case sign:
		return t.text == "-"
	}
	return t.kind == word && (t.text == "len" || next.kind == sign && next.text == "[")
}

// qualified: words that say what is meant, and mostly a name.
func (p *parser) qualified() (cond, error) {
	q, named, err := p.qualifiers()
	if err != nil {
		return nil, err
	}
	if named && q.kind == "" && q.dir == "" {
		switch {
		case p.takes("broadcast"):
			return p.broadcast(q.proto)
		case p.takes("multicast"):
			return p.multicast(q.proto)
		case !p.name(q):
			return p.protocol(q.proto)
		}
	}
	if !named {
		if c, err := p.alone(); c != nil || err != nil {
			return c, err
		}
		q = p.last
	}
	p.last = q
	if p.peek().kind == sign && p.peek().text == "(" {
		return p.parenthesis()
	}
	if !p.name(q) {
		return nil, p.unexpected("a name, an address or a number")
	}
	return p.named(q)
}

// keywords are no names, unless they are quoted.
var keywords = []string{"and", "or", "not", "src", "dst", "host", "net", "port", "portrange", "proto", "less", "greater", "broadcast", "multicast", "mask", "len"}

// name: what comes may be one. Of a protocol it may be a protocol's.
func (p *parser) name(q qualifiers) bool {
	t := p.peek()
	if t.kind == word && !t.quoted {
		return !slices.Contains(keywords, t.text) && (q.kind == "proto" || !knownProtocol(t.text))
	}
	return t.kind != ended && t.kind != sign
}

func (p *parser) unexpected(want string) error {
	if p.peek().kind == ended {
		return fmt.Errorf("it ends where %s is expected", want)
	}
	return fmt.Errorf("%q is not expected: want %s", p.peek().text, want)
}

// qualifiers reads all that there are; false for none.
func (p *parser) qualifiers() (q qualifiers, named bool, err error) {
	if t := p.peek(); t.kind == word && !t.quoted {
		if hint, refused := refusals[t.text]; refused {
			return q, false, fmt.Errorf("%q is not understood here: %s", t.text, hint)
		}
		if knownProtocol(t.text) {
			q.proto, named = t.text, true
			p.at++
		}
	}
	if p.takes("src") {
		q.dir, named = p.direction("src", "dst"), true
	} else if p.takes("dst") {
		q.dir, named = p.direction("dst", "src"), true
	}
	for _, kind := range []string{"host", "net", "port", "portrange", "proto"} {
		if p.takes(kind) {
			q.kind, named = kind, true
			return q, named, nil
		}
	}
	if t := p.peek(); named && t.kind == word && !t.quoted {
		if hint, refused := refusals[t.text]; refused {
			return q, false, fmt.Errorf("%q is not understood here: %s", t.text, hint)
		}
	}
	return q, named, nil
}

func (p *parser) direction(one, other string) string {
	if t := p.ahead(1); t.kind == word && t.text == other {
		if p.takes("or") {
			p.at++
			return "or"
		}
		if p.takes("and") {
			p.at++
			return "and"
		}
	}
	return one
}

// alone are the words that need no name; nil for another.
func (p *parser) alone() (cond, error) {
	switch {
	case p.takes("broadcast"):
		return p.broadcast("")
	case p.takes("multicast"):
		return p.multicast("")
	case p.takes("less"):
		return p.length("less")
	case p.takes("greater"):
		return p.length("greater")
	}
	return nil, nil
}
