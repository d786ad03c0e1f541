package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// copyAfter is how long after a change the copy follows it, by itself: what a damaged
// file can cost, where nobody else knows it either.
const copyAfter = 10 * time.Second

// copyFile has every value of the store as it was a little while ago, as lines of
// JSON: the first says what the file is, the last counts and sums up those between.
// It is written whole and takes the former's place by a rename, so that there always
// is one that is sound, in another format than the store's and in other blocks of
// the disk.
func copyFile(dataRoot string) string { return filepath.Join(dataRoot, "fairlead.copy") }

// copyHead says of when the copy is: the transaction is comparable within one life of
// the file.
type copyHead struct {
	Copy        int       `json:"fairlead_copy"`
	Time        time.Time `json:"time"`
	Life        string    `json:"life"`
	Transaction uint64    `json:"transaction"`
}

// copied is what a copy has.
type copied struct {
	copyHead
	values buckets
}

type copyLine struct {
	Bucket string          `json:"b"`
	Key    string          `json:"k"`
	Value  json.RawMessage `json:"v"`
}

type copyTail struct {
	Records int    `json:"records"`
	SHA256  string `json:"sha256"`
}

// copies is who keeps the copy up to date.
type copies struct {
	changed chan struct{} // has room for one
	quit    chan struct{}
	done    chan struct{}
}

// changed says that there is something to copy.
func (s *Store) changed() {
	select {
	case s.copies.changed <- struct{}{}:
	default:
	}
}

func (s *Store) startCopies(after time.Duration) {
	s.copies = copies{make(chan struct{}, 1), make(chan struct{}), make(chan struct{})}
	if _, err := os.Stat(copyFile(s.root)); err != nil || s.repair != nil {
		s.changed()
	}
	go s.keepCopy(after)
}

// endCopies brings the copy up to date a last time.
func (s *Store) endCopies() {
	close(s.copies.quit)
	<-s.copies.done
}

func (s *Store) keepCopy(after time.Duration) {
	defer close(s.copies.done)
	failed := false
	for {
		var quit bool
		select {
		case <-s.copies.changed:
			select {
			case <-time.After(after):
			case <-s.copies.quit:
				quit = true
			}
		case <-s.copies.quit:
			quit = true
			select {
			case <-s.copies.changed:
			default:
				return
			}
		}
		select { // what came while it waited is in this one
		case <-s.copies.changed:
		default:
		}
		began := time.Now()
		err := s.copy()
		if err != nil {
			if !failed {
				s.log.Error("the store could not be copied; the former copy stays, and it is tried again", "operation", "store", "err", err)
			}
			s.changed()
		}
		failed = err != nil
		if quit {
			return
		}
		// A large store on a slow disk is not busy with its copies.
		select {
		case <-time.After(20 * time.Since(began)):
		case <-s.copies.quit:
		}
	}
}

// copy writes the copy anew.
func (s *Store) copy() error {
	path := copyFile(s.root)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = s.writeCopy(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = os.Remove(path + ".new") // what a full disk took of it
		return err
	}
	return syncDir(s.root)
}

func (s *Store) writeCopy(to io.Writer) error {
	sum := sha256.New()
	w := bufio.NewWriterSize(to, 1<<16)
	out := json.NewEncoder(io.MultiWriter(w, sum))
	records := 0
	err := s.db.View(func(tx *bbolt.Tx) error {
		head := copyHead{Copy: 1, Time: time.Now().UTC(), Transaction: uint64(tx.ID())}
		if b := tx.Bucket([]byte("meta")); b != nil {
			head.Life = string(b.Get([]byte("life")))
		}
		if err := out.Encode(head); err != nil {
			return err
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if string(name) == damagedBucket {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				records++
				// The encoder refuses what is no JSON: a copy is of sound values.
				if err := out.Encode(copyLine{string(name), string(k), v}); err != nil {
					return fmt.Errorf("%s/%s: %w", name, k, err)
				}
				return nil
			})
		})
	})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(w).Encode(copyTail{records, hex.EncodeToString(sum.Sum(nil))}); err != nil {
		return err
	}
	return w.Flush()
}

// readCopy returns what the copy has; no values where there is an error.
func readCopy(dataRoot string) (copied, error) {
	raw, err := os.ReadFile(copyFile(dataRoot))
	if err != nil {
		return copied{}, err
	}
	return parseCopy(raw)
}

func parseCopy(raw []byte) (copied, error) {
	fail := func(why string) (copied, error) { return copied{}, fmt.Errorf("it is damaged: %s", why) }
	body, last := cutLast(raw)
	var tail copyTail
	if json.Unmarshal(last, &tail) != nil || tail.SHA256 == "" {
		return fail("it has no end")
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != tail.SHA256 {
		return fail("its sum is another")
	}
	out := copied{values: make(buckets)}
	in := json.NewDecoder(bytes.NewReader(body))
	if err := in.Decode(&out.copyHead); err != nil || out.Copy != 1 {
		return fail("it is of another kind")
	}
	for {
		var l copyLine
		err := in.Decode(&l)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return fail(err.Error())
		}
		out.values.put(l.Bucket, l.Key, l.Value)
	}
}

// cutLast cuts off the last line.
func cutLast(raw []byte) (before, last []byte) {
	text := bytes.TrimSuffix(raw, []byte("\n"))
	i := bytes.LastIndexByte(text, '\n') + 1
	return text[:i], text[i:]
}
