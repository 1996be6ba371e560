package main

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/nats-io/nats-server/v2/server"
)

// The server does not export its assignments. These have the same fields in the same order, and
// are handed to its own encoders, which write by the names of the server's types.

type raftGroup struct {
	Name      string
	Peers     []string
	Storage   server.StorageType
	Cluster   string
	Preferred string
	ScaleUp   bool
	node      server.RaftNode
}

type streamAssignment struct {
	Client      *server.ClientInfo
	Created     time.Time
	ConfigJSON  json.RawMessage
	Config      *server.StreamConfig
	Group       *raftGroup
	Sync        string
	Subject     string
	Reply       string
	Restore     *server.StreamState
	consumers   map[string]*consumerAssignment
	responded   bool
	recovering  bool
	reassigning bool
	resetting   bool
	err         error
	unsupported *unsupportedAssignment
}

type consumerAssignment struct {
	Client      *server.ClientInfo
	Created     time.Time
	Name        string
	Stream      string
	ConfigJSON  json.RawMessage
	Config      *server.ConsumerConfig
	Group       *raftGroup
	Subject     string
	Reply       string
	State       *server.ConsumerState
	responded   bool
	recovering  bool
	err         error
	unsupported *unsupportedAssignment
}

// The beginning of what the server notes of an assignment that it does not support.
type unsupportedAssignment struct {
	reason string
}

type streamPurge struct {
	Client  *server.ClientInfo
	Stream  string
	LastSeq uint64
	Subject string
	Reply   string
	Request *server.JSApiStreamPurgeRequest
}

type streamMsgDelete struct {
	Client  *server.ClientInfo
	Stream  string
	Seq     uint64
	NoErase bool
	Subject string
	Reply   string
}

//go:linkname encodeAddStreamAssignment github.com/nats-io/nats-server/v2/server.encodeAddStreamAssignment
func encodeAddStreamAssignment(*streamAssignment) []byte

//go:linkname encodeUpdateStreamAssignment github.com/nats-io/nats-server/v2/server.encodeUpdateStreamAssignment
func encodeUpdateStreamAssignment(*streamAssignment) []byte

//go:linkname encodeDeleteStreamAssignment github.com/nats-io/nats-server/v2/server.encodeDeleteStreamAssignment
func encodeDeleteStreamAssignment(*streamAssignment) []byte

//go:linkname encodeAddConsumerAssignment github.com/nats-io/nats-server/v2/server.encodeAddConsumerAssignment
func encodeAddConsumerAssignment(*consumerAssignment) []byte

//go:linkname encodeDeleteConsumerAssignment github.com/nats-io/nats-server/v2/server.encodeDeleteConsumerAssignment
func encodeDeleteConsumerAssignment(*consumerAssignment) []byte

//go:linkname encodeAddConsumerAssignmentCompressed github.com/nats-io/nats-server/v2/server.encodeAddConsumerAssignmentCompressed
func encodeAddConsumerAssignmentCompressed(*consumerAssignment) []byte

//go:linkname decodeConsumerAssignment github.com/nats-io/nats-server/v2/server.decodeConsumerAssignment
func decodeConsumerAssignment([]byte) (*consumerAssignment, error)

//go:linkname encodeStreamPurge github.com/nats-io/nats-server/v2/server.encodeStreamPurge
func encodeStreamPurge(*streamPurge) []byte

//go:linkname encodeMsgDelete github.com/nats-io/nats-server/v2/server.encodeMsgDelete
func encodeMsgDelete(*streamMsgDelete) []byte

// assignments writes assignments, purges and deletes with every field set, and with none.
func assignments() {
	var stream streamAssignment
	var consumer consumerAssignment
	var purge streamPurge
	var remove streamMsgDelete
	fill(&purge)
	fill(&remove)
	fill(&stream)
	fill(&consumer)
	// The server sets it itself.
	stream.ConfigJSON, consumer.ConfigJSON = nil, nil
	bytes("assign_stream", "full_add", encodeAddStreamAssignment(&stream))
	bytes("assign_stream", "full_update", encodeUpdateStreamAssignment(&stream))
	bytes("assign_stream", "full_delete", encodeDeleteStreamAssignment(&stream))
	bytes("assign_consumer", "full_add", encodeAddConsumerAssignment(&consumer))
	bytes("assign_consumer", "full_delete", encodeDeleteConsumerAssignment(&consumer))
	bytes("assign_consumer", "full_compressed", encodeAddConsumerAssignmentCompressed(&consumer))
	bytes("stream_purge", "full", encodeStreamPurge(&purge))
	bytes("msg_delete", "full", encodeMsgDelete(&remove))

	// Without a group, as no server sends it: a pointer to nothing.
	bytes("assign_stream", "no_group", encodeAddStreamAssignment(&streamAssignment{
		Config: &server.StreamConfig{Storage: server.FileStorage}}))
	bytes("assign_consumer", "no_group", encodeAddConsumerAssignment(&consumerAssignment{
		Config: &server.ConsumerConfig{}}))
	group := &raftGroup{Name: "G", Storage: server.FileStorage}
	bytes("assign_stream", "empty", encodeAddStreamAssignment(&streamAssignment{Group: group,
		Config: &server.StreamConfig{Storage: server.FileStorage}}))
	bytes("assign_consumer", "empty", encodeAddConsumerAssignment(&consumerAssignment{
		Group: group, Config: &server.ConsumerConfig{}}))
	bytes("stream_purge", "empty", encodeStreamPurge(&streamPurge{}))
	bytes("msg_delete", "empty", encodeMsgDelete(&streamMsgDelete{}))
}

func bytes(kind, name string, encoded []byte) {
	write(vector{Kind: kind, Name: name, Hex: hex.EncodeToString(encoded)})
}

// unsupported writes what the server says of consumers that it does not understand.
func unsupported() {
	configs := map[string]string{
		"supported":      `{"name":"C"}`,
		"level_3":        `{"name":"C","metadata":{"_nats.req.level":"3"}}`,
		"level_4":        `{"name":"C","metadata":{"_nats.req.level":"4"}}`,
		"level_none":     `{"name":"C","metadata":{"_nats.req.level":""}}`,
		"level_negative": `{"name":"C","metadata":{"_nats.req.level":"-1"}}`,
		"level_plus":     `{"name":"C","metadata":{"_nats.req.level":"+3"}}`,
		"level_zeros":    `{"name":"C","metadata":{"_nats.req.level":"0003"}}`,
		"level_text":     `{"name":"C","metadata":{"_nats.req.level":"x"}}`,
		"level_space":    `{"name":"C","metadata":{"_nats.req.level":" 3"}}`,
		"level_under":    `{"name":"C","metadata":{"_nats.req.level":"1_0"}}`,
		"level_large":    `{"name":"C","metadata":{"_nats.req.level":"9999999999999999999"}}`,
		"field":          `{"name":"C","new":1}`,
		"fields":         `{"name":"C","b":{"x":[1,{"a":2}]},"a":1}`,
		"field_level":    `{"name":"C","new":1,"metadata":{"_nats.req.level":"4"}}`,
		"policy":         `{"name":"C","ack_policy":"sometimes"}`,
		"type":           `{"name":"C","max_batch":"many"}`,
	}
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		config := configs[name]
		document := `{"name":"C","stream":"S","consumer":` + config + `,"group":{"name":"G"}}`
		v := vector{Kind: "unsupported_consumer", Name: name,
			Hex: hex.EncodeToString([]byte("\x01" + document + "\n"))}
		if decoded, err := decodeConsumerAssignment([]byte(document)); err != nil {
			v.Error = err.Error()
		} else if decoded.unsupported != nil {
			v.Reason = decoded.unsupported.reason
		}
		write(v)
	}
}
