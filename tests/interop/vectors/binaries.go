package main

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand"
	"strconv"
	"strings"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/avl"
)

//go:linkname encodeStreamMsgAllowCompressAndBatch github.com/nats-io/nats-server/v2/server.encodeStreamMsgAllowCompressAndBatch
func encodeStreamMsgAllowCompressAndBatch(subject, reply string, hdr, msg []byte, lseq uint64,
	ts int64, sourced bool, batchID string, batchSeq uint64, batchCommit bool) []byte

//go:linkname encodeConsumerState github.com/nats-io/nats-server/v2/server.encodeConsumerState
func encodeConsumerState(*server.ConsumerState) []byte

//go:linkname encodePeerState github.com/nats-io/nats-server/v2/server.encodePeerState
func encodePeerState(*peerState) []byte

// As the server's own, field by field.
type peerState struct {
	knownPeers  []string
	clusterSize int
	domainExt   uint16
}

type fields map[string]any

func emitBinary(kind, name string, values fields, encoded []byte) {
	write(vector{Kind: kind, Name: name, Fields: values, Hex: hex.EncodeToString(encoded)})
}

func binaries() {
	messages()
	consumerStates()
	sequenceSets()
	peerStates()
}

func digits(n uint64) string {
	return strconv.FormatUint(n, 10)
}

// messages has every flag of messages and batches, small, compressed and too random for that.
func messages() {
	random := rand.New(rand.NewSource(1))
	noise := make([]byte, 9000)
	random.Read(noise)
	header := []byte("NATS/1.0\r\nNats-Batch-Id: uuid\r\nNats-Batch-Sequence: 1\r\n\r\n")
	payloads := map[string][]byte{
		"none": nil, "small": []byte("A"), "packed": []byte(strings.Repeat("A", 8192)),
		"noise": noise,
	}
	for _, size := range []string{"none", "small", "packed", "noise"} {
		for flags := range 8 {
			sourced, batched, commit := flags&1 != 0, flags&2 != 0, flags&4 != 0
			if commit && !batched || size == "noise" && flags%3 != 0 {
				continue
			}
			batchID, batchSeq := "", uint64(0)
			if batched {
				batchID, batchSeq = "uuid", uint64(127+flags)
			}
			message("plain_"+size, header, payloads[size], sourced, batchID, batchSeq, commit)
		}
	}
	for _, seq := range []uint64{0, 1, 127, 128, 1 << 63, math.MaxUint64} {
		message("place", nil, []byte("x"), false, "b", seq, seq == 1)
	}
	message("long_id", nil, nil, false, strings.Repeat("i", 64), 2, true)
}

var numbered int

func message(name string, header, payload []byte, sourced bool, batchID string, batchSeq uint64,
	commit bool) {
	numbered++
	lseq, ts := uint64(numbered)<<(numbered%57), moment.UnixNano()
	encoded := encodeStreamMsgAllowCompressAndBatch("foo", "reply", header, payload, lseq, ts,
		sourced, batchID, batchSeq, commit)
	emitBinary("stream_msg", fmt.Sprintf("%s_%d", name, numbered), fields{
		"op": encoded[0], "subject_hex": hex.EncodeToString([]byte("foo")), "reply": "reply",
		"hdr": hex.EncodeToString(header), "msg": hex.EncodeToString(payload),
		"lseq": digits(lseq), "ts": strconv.FormatInt(ts, 10), "sourced": sourced,
		"batch_id": batchID, "batch_seq": digits(batchSeq), "batch_commit": commit,
	}, encoded)
}

func consumerStates() {
	pair := func(consumer, stream uint64) server.SequencePair {
		return server.SequencePair{Consumer: consumer, Stream: stream}
	}
	ago := func(seconds int64) int64 {
		return time.Now().Add(-time.Duration(seconds) * time.Second).UnixNano()
	}
	const top = 1<<63 - 1
	states := []server.ConsumerState{
		{},
		{AckFloor: pair(top, top), Delivered: pair(top, top)},
		{AckFloor: pair(0, 0), Delivered: pair(1, 1),
			Pending: map[uint64]*server.Pending{1: {Sequence: 1, Timestamp: ago(0)}}},
		{AckFloor: pair(10, 20), Delivered: pair(150, 400),
			Pending: map[uint64]*server.Pending{399: {Sequence: 149, Timestamp: ago(86_400)}}},
		{AckFloor: pair(10, 20), Delivered: pair(150, 400),
			Pending:     map[uint64]*server.Pending{21: {Sequence: 11, Timestamp: ago(-3600)}},
			Redelivered: map[uint64]uint64{21: 2}},
		{AckFloor: pair(5, 5), Delivered: pair(6, 6),
			Redelivered: map[uint64]uint64{6: math.MaxUint64}},
		{AckFloor: pair(1<<40, 1<<50), Delivered: pair(1<<41, 1<<51),
			Pending: map[uint64]*server.Pending{1<<50 + 1<<20: {Sequence: 1<<40 + 1<<10}}},
		{AckFloor: pair(7, 9), Delivered: pair(30, 40),
			Pending: map[uint64]*server.Pending{10: {Sequence: 8, Timestamp: ago(1)},
				11: {Sequence: 9, Timestamp: ago(2)}, 40: {Sequence: 30, Timestamp: ago(3)}},
			Redelivered: map[uint64]uint64{10: 2, 11: 300}},
	}
	for i, state := range states {
		pending := fields{}
		for seq, one := range state.Pending {
			pending[digits(seq)] = []string{
				digits(one.Sequence), strconv.FormatInt(one.Timestamp, 10)}
		}
		redelivered := fields{}
		for seq, count := range state.Redelivered {
			redelivered[digits(seq)] = digits(count)
		}
		emitBinary("consumer_state", strconv.Itoa(i), fields{
			"ack_floor": []string{digits(state.AckFloor.Consumer), digits(state.AckFloor.Stream)},
			"delivered": []string{
				digits(state.Delivered.Consumer), digits(state.Delivered.Stream)},
			"pending": pending, "redelivered": redelivered,
		}, encodeConsumerState(&state))
	}
}

// sequenceSets has trees of shapes that deletes, far jumps and the ends of the numbers leave.
func sequenceSets() {
	random := rand.New(rand.NewSource(2))
	shapes := []struct {
		name string
		make func(*avl.SequenceSet)
	}{
		{"empty", func(*avl.SequenceSet) {}},
		{"emptied", func(set *avl.SequenceSet) { insert(set, 5, 70, 5000); set.Empty() }},
		{"one_by_one_emptied", func(set *avl.SequenceSet) {
			insert(set, 5, 70, 5000)
			remove(set, 70, 5000, 5)
		}},
		{"zero", func(set *avl.SequenceSet) { insert(set, 0) }},
		{"ends", func(set *avl.SequenceSet) {
			// A second one in the last node would get a node of its own upstream.
			insert(set, 0, math.MaxUint64, 1, 1<<63)
		}},
		{"edges_of_nodes", func(set *avl.SequenceSet) {
			insert(set, 2047, 2048, 4095, 4096, 63, 64, 127, 128)
		}},
		{"rising", func(set *avl.SequenceSet) {
			for i := range uint64(20) {
				insert(set, i*2048+i)
			}
		}},
		{"falling", func(set *avl.SequenceSet) {
			for i := range uint64(20) {
				insert(set, (20-i)*2048+i)
			}
		}},
		{"zigzag", func(set *avl.SequenceSet) {
			for i := range uint64(10) {
				insert(set, i*10_000, (40-i)*10_000)
			}
		}},
		{"random", func(set *avl.SequenceSet) {
			for range 30 {
				insert(set, random.Uint64())
			}
		}},
		{"nodes_removed", func(set *avl.SequenceSet) {
			for i := range uint64(24) {
				insert(set, i*2048)
			}
			// The root, leaves, and nodes with one child and two.
			for _, i := range []uint64{7, 15, 0, 23, 11, 12, 8, 3} {
				remove(set, i*2048)
			}
		}},
		{"run_with_holes", func(set *avl.SequenceSet) {
			for i := range uint64(5000) {
				insert(set, 100+i)
			}
			for i := range uint64(500) {
				remove(set, 100+i*7)
			}
		}},
		{"united", func(set *avl.SequenceSet) {
			var other avl.SequenceSet
			insert(set, 1, 3, 9000, 20_000)
			insert(&other, 2, 3, 4, 11_000, 1_000_000)
			set.Union(&other)
		}},
		{"from_a_minimum", func(set *avl.SequenceSet) {
			must(set.SetInitialMin(222_222))
			insert(set, 222_222, 222_223, 224_270, 222_221)
		}},
	}
	for _, shape := range shapes {
		var set avl.SequenceSet
		shape.make(&set)
		encoded := noError(set.Encode(nil))
		emitBinary("sequence_set", shape.name, fields{
			"size": set.Size(), "nodes": set.Nodes(), "runs": runs(&set)}, encoded)
	}
}

// noError is what was encoded; newer servers return no error beside.
func noError(encoded []byte, errs ...error) []byte {
	for _, err := range errs {
		must(err)
	}
	return encoded
}

func insert(set *avl.SequenceSet, sequences ...uint64) {
	for _, sequence := range sequences {
		set.Insert(sequence)
	}
}

func remove(set *avl.SequenceSet, sequences ...uint64) {
	for _, sequence := range sequences {
		set.Delete(sequence)
	}
}

// runs is what a set holds, as first and count of neighbours.
func runs(set *avl.SequenceSet) [][]string {
	var first, count uint64
	found := [][]string{}
	keep := func() {
		if count > 0 {
			found = append(found, []string{digits(first), digits(count)})
		}
	}
	set.Range(func(sequence uint64) bool {
		if count > 0 && sequence == first+count {
			count++
			return true
		}
		keep()
		first, count = sequence, 1
		return true
	})
	keep()
	return found
}

// peerStates has every state of a domain, with no peers to many.
func peerStates() {
	for domain := range uint16(3) {
		for _, count := range []int{0, 1, 3, 5, 64} {
			peers := []string{}
			for i := range count {
				peers = append(peers, fmt.Sprintf("peer%04d", i))
			}
			// A group is larger than what is known of it while it forms.
			state := peerState{peers, count + int(domain), domain}
			emitBinary("peer_state", fmt.Sprintf("%d_of_domain_%d", count, domain), fields{
				"cluster_size": state.clusterSize, "domain_ext": domain, "peers": peers,
			}, encodePeerState(&state))
		}
	}
}
