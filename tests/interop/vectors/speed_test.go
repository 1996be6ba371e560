package main

import (
	"strings"
	"testing"
	_ "unsafe" // for go:linkname

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/avl"
)

// What the server's own encoders and decoders cost, beside `cargo bench --bench wire`:
//
//	go test -bench .

//go:linkname decodeStreamMsg github.com/nats-io/nats-server/v2/server.decodeStreamMsg
func decodeStreamMsg([]byte) (subject, reply string, hdr, msg []byte, lseq uint64, ts int64,
	sourced bool, err error)

//go:linkname encodeAppendEntry github.com/nats-io/nats-server/v2/server.(*appendEntry).encode
func encodeAppendEntry(*appendEntry, []byte) ([]byte, error)

//go:linkname decodeAppendEntry github.com/nats-io/nats-server/v2/server.decodeAppendEntry
func decodeAppendEntry(msg []byte, sub *struct{}, reply string) (*appendEntry, error)

// As the server's own, field by field.
type appendEntry struct {
	leader  string
	term    uint64
	commit  uint64
	pterm   uint64
	pindex  uint64
	entries []*server.Entry
	lterm   uint64
	reply   string
	sub     *struct{}
	buf     []byte
}

func appendEntryOf64() *appendEntry {
	data := []byte(strings.Repeat("x", 128))
	entry := &appendEntry{leader: "S1abcdef", term: 3, commit: 900, pterm: 3, pindex: 901}
	for range 64 {
		entry.entries = append(entry.entries, &server.Entry{Data: data})
	}
	return entry
}

func BenchmarkAppendEntryEncode(b *testing.B) {
	entry := appendEntryOf64()
	b.ReportAllocs()
	for b.Loop() {
		_, err := encodeAppendEntry(entry, nil)
		must(err)
	}
}

func BenchmarkAppendEntryDecode(b *testing.B) {
	message, err := encodeAppendEntry(appendEntryOf64(), nil)
	must(err)
	b.ReportAllocs()
	for b.Loop() {
		_, err := decodeAppendEntry(message, nil, "")
		must(err)
	}
}

func encodeMessage(payload []byte) []byte {
	return encodeStreamMsgAllowCompressAndBatch("orders.eu.new", "", nil, payload, 12_345,
		1_700_000_000_000_000_000, false, "", 0, false)
}

func BenchmarkMessageEncode(b *testing.B) {
	payload := []byte(strings.Repeat("x", 128))
	b.ReportAllocs()
	for b.Loop() {
		encodeMessage(payload)
	}
}

func BenchmarkMessageDecode(b *testing.B) {
	message := encodeMessage([]byte(strings.Repeat("x", 128)))
	b.ReportAllocs()
	for b.Loop() {
		_, _, _, _, _, _, _, err := decodeStreamMsg(message[1:])
		must(err)
	}
}

func BenchmarkMessageCompress(b *testing.B) {
	payload := []byte(strings.Repeat("jetstream replicated message body ", 482))[:16*1024]
	b.ReportAllocs()
	for b.Loop() {
		encodeMessage(payload)
	}
}

func deletes() *avl.SequenceSet {
	var set avl.SequenceSet
	for i := range uint64(100_000) {
		set.Insert(2 * (i + 1))
	}
	return &set
}

// The deletes are nearly all of such a state.
func BenchmarkDeletesEncode(b *testing.B) {
	set := deletes()
	b.ReportAllocs()
	for b.Loop() {
		noError(set.Encode(nil))
	}
}

func BenchmarkDeletesDecode(b *testing.B) {
	encoded := append([]byte{42, 1, 1, 1, 1, 1, 0, 1}, noError(deletes().Encode(nil))...)
	b.ReportAllocs()
	for b.Loop() {
		_, err := server.DecodeStreamState(encoded)
		must(err)
	}
}
