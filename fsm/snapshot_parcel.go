package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"

	"oaas.io/control-plane/proto/pmpb"
)

// Records go from the reader to the decoders and on in parcels of at most so
// many; a parcel is also full when it has that many bytes.
const (
	parcelRecords = 256
	parcelBytes   = 256 << 10
	// maxDecoders bounds the goroutines that decode.
	maxDecoders = 4
)

// parcel is a run of records.
type parcel struct {
	// data has the encoded records one after the other, ends where each one ends.
	data bytes.Buffer
	ends []int
	// decoded has the records, once ready has a value.
	decoded []decodedRecord
	ready   chan struct{}
}

// decodedRecord is a record with what is to become of it. err is set when it
// cannot be decoded, invalid when no row can be made of it.
type decodedRecord struct {
	rec          *pmpb.SnapshotRecord
	row          any
	err, invalid error
}

func (p *parcel) decode(rowOf func(*pmpb.SnapshotRecord) (any, error)) {
	p.decoded = p.decoded[:0]
	begin := 0
	for _, end := range p.ends {
		d := decodedRecord{rec: &pmpb.SnapshotRecord{}}
		d.err = decoding.Unmarshal(p.data.Bytes()[begin:end], d.rec)
		if d.err == nil && rowOf != nil {
			d.row, d.invalid = rowOf(d.rec)
		}
		p.decoded = append(p.decoded, d)
		begin = end
	}
	p.ready <- struct{}{}
}

// tail is how the inside of a frame ends.
type tail struct {
	// number is that of the last record that was begun.
	number uint64
	// reason says why there is no end. Without one, cause says why the end cannot
	// be read.
	reason string
	cause  error
	// counts and digest are what the snapshot says about itself, sum is the
	// SHA-256 that it has.
	counts, digest, sum []byte
}

// parcels reads records in one goroutine and decodes them in others: decoding
// takes much longer than reading, and a node that starts waits for it. take is
// given the parcels in the order of the file, by the caller's goroutine. All
// goroutines have ended when parcels returns.
func parcels(in *bufio.Reader, digest hash.Hash, counts int, rowOf func(*pmpb.SnapshotRecord) (any, error), take func(*parcel) error) (*tail, error) {
	decoders := min(runtime.GOMAXPROCS(0), maxDecoders)
	inFlight := 2 * decoders
	// All channels have room for every parcel that there is, so that only a lack
	// of parcels makes anyone wait.
	free, work, ordered := make(chan *parcel, inFlight), make(chan *parcel, inFlight), make(chan *parcel, inFlight)
	for range inFlight {
		free <- &parcel{ready: make(chan struct{}, 1)}
	}
	stop := make(chan struct{})
	scan := &scanner{in: in, digest: digest}
	var end *tail
	var group sync.WaitGroup
	group.Go(func() {
		defer close(ordered)
		defer close(work)
		end = scan.run(counts, func() *parcel {
			select {
			case p := <-free:
				return p
			case <-stop:
				return nil
			}
		}, func(p *parcel) {
			work <- p
			ordered <- p
		})
	})
	for range decoders {
		group.Go(func() {
			for p := range work {
				p.decode(rowOf)
			}
		})
	}
	err := takeAll(ordered, free, take)
	close(stop)
	group.Wait()
	return end, err
}

func takeAll(ordered <-chan *parcel, free chan<- *parcel, take func(*parcel) error) error {
	for p := range ordered {
		<-p.ready
		if err := take(p); err != nil {
			return err
		}
		free <- p
	}
	return nil
}

// scanner cuts the inside of a frame into records.
type scanner struct {
	in     *bufio.Reader
	digest hash.Hash
	number uint64
}

// run fills parcels from next, which gives nil when it is to stop, and sends them.
func (s *scanner) run(counts int, next func() *parcel, send func(*parcel)) *tail {
	for {
		p := next()
		if p == nil {
			return nil
		}
		end := s.fill(p, counts)
		send(p)
		if end != nil {
			return end
		}
	}
}

// fill gives a tail when the parcel is the last one.
func (s *scanner) fill(p *parcel, counts int) *tail {
	p.data.Reset()
	p.ends = p.ends[:0]
	for len(p.ends) < parcelRecords && p.data.Len() < parcelBytes {
		size, err := binary.ReadUvarint(s.in)
		switch {
		case err != nil:
			return s.broken("no length after this record", err)
		case size == 0:
			return s.end(counts)
		case size > maxRecordBytes:
			return s.broken(fmt.Sprintf("next record has %d bytes, at most %d are allowed", size, maxRecordBytes), nil)
		}
		s.number++
		begin := p.data.Len()
		// The buffer grows with what is read, not with what the length claims.
		if _, err := io.CopyN(&p.data, s.in, int64(size)); err != nil {
			return s.broken("is cut off", err)
		}
		s.digest.Write(binary.AppendUvarint(nil, size))
		s.digest.Write(p.data.Bytes()[begin:])
		p.ends = append(p.ends, p.data.Len())
	}
	return nil
}

func (s *scanner) broken(reason string, cause error) *tail {
	return &tail{number: s.number, reason: reason, cause: cause}
}

func (s *scanner) end(counts int) *tail {
	rest := make([]byte, 8*counts+sha256.Size)
	if _, err := io.ReadFull(s.in, rest); err != nil {
		return &tail{number: s.number, cause: err}
	}
	t := &tail{number: s.number, counts: rest[:8*counts], digest: rest[8*counts:]}
	s.digest.Write([]byte{0})
	s.digest.Write(t.counts)
	t.sum = s.digest.Sum(nil)
	return t
}
