// Makes vectors with nats-server's own types and encoders.
//
//	cd tests/interop/vectors
//	go run . json > ../../golden/json.jsonl
//	go run . binary > ../../golden/binary.jsonl
//	go run . live > ../../golden/live.jsonl
//	go run -modfile=newer.mod . reset >> ../../golden/live.jsonl
//	go run . meta > ../../golden/meta.jsonl
//
// Each line is a case: a kind, a name, the values encoded, the bytes as hex, and what the server
// says of an assignment that it does not support. `live` starts a cluster of three servers and
// keeps what the group of a consumer replicates, for which the server has no encoder to call; so
// does `reset`, for an op of newer servers than the one that all else is made by, and `meta`, for
// the snapshot files of the group that assigns streams and consumers.
package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A case, in the form of the other vectors.
type vector struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Fields any    `json:"fields,omitempty"`
	Hex    string `json:"hex"`
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
	Made   string `json:"made_by"`
}

func write(v vector) {
	v.Made = "nats-server v" + server.VERSION
	line, err := json.Marshal(v)
	must(err)
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// marshalled writes the cases of one exported type: every field set, none set, and odd values.
func marshalled[T any](kind string, odd ...T) {
	var full, empty T
	fill(&full)
	// A stream without a kind of storage cannot be written.
	if _, err := json.Marshal(empty); err == nil {
		emit(kind, "empty", empty)
	}
	emit(kind, "full", full)
	for i, value := range odd {
		emit(kind, fmt.Sprintf("odd_%d", i), value)
	}
}

// answered writes an answer with every field set, and a refusal.
func answered[T any](kind, name string, refused T) {
	var full T
	fill(&full)
	emit(kind, name+"_full", full)
	emit(kind, name+"_refused", refused)
}

func emit(kind, name string, value any) {
	bytes, err := json.Marshal(value)
	must(err)
	write(vector{Kind: kind, Name: name, Hex: hex.EncodeToString(bytes)})
}

func main() {
	if len(os.Args) != 2 {
		must(fmt.Errorf("expected one of: json, binary, live, reset, meta"))
	}
	switch os.Args[1] {
	case "json":
		documents()
	case "binary":
		binaries()
	case "live":
		live(delivered, acks, skip)
	case "reset":
		live(reset)
	case "meta":
		meta()
	default:
		must(fmt.Errorf("expected one of: json, binary, live, reset, meta"))
	}
}

func documents() {
	marshalled("stream_config", policies()...)
	marshalled("consumer_config", consumerPolicies()...)
	marshalled[server.ClusterInfo]("cluster_info")
	marshalled[server.StreamInfo]("stream_info", odd())
	marshalled[server.ConsumerInfo]("consumer_info")
	answered("stream_info_response", "info", refusedInfo())
	answered("stream_info_response", "create", refusedCreate())
	answered("consumer_info_response", "create", refusedConsumer())
	marshalled[server.JSPubAckResponse]("pub_ack", refusedPublish())
	responses()
	assignments()
	unsupported()
}

// responses writes the answers that carry no more than done or not.
func responses() {
	notFound := server.ApiErrors[server.JSStreamNotFoundErr]
	kind := "api_response"
	emit(kind, "delete", &server.JSApiMsgDeleteResponse{
		ApiResponse: server.ApiResponse{Type: server.JSApiMsgDeleteResponseType}, Success: true})
	emit(kind, "delete_refused", &server.JSApiMsgDeleteResponse{
		ApiResponse: server.ApiResponse{Type: server.JSApiMsgDeleteResponseType, Error: notFound}})
	emit(kind, "purge", &server.JSApiStreamPurgeResponse{
		ApiResponse: server.ApiResponse{Type: server.JSApiStreamPurgeResponseType},
		Success:     true, Purged: 7})
	emit(kind, "purge_refused", &server.JSApiStreamPurgeResponse{
		ApiResponse: server.ApiResponse{Type: server.JSApiStreamPurgeResponseType, Error: notFound}})
}

// policies has every named value of a stream's configuration.
func policies() []server.StreamConfig {
	var configs []server.StreamConfig
	for retention := server.LimitsPolicy; retention <= server.WorkQueuePolicy; retention++ {
		configs = append(configs, server.StreamConfig{Name: "S", Retention: retention,
			Storage: server.MemoryStorage, Discard: server.DiscardNew,
			Compression: server.S2Compression, PersistMode: server.AsyncPersistMode})
	}
	text := "\x00\x01\x08\t\n\x0b\x0c\r\x1b\"\\/<>&\x7f\u0080é\u2027\u2028\u2029\u202a\ufffd😀"
	return append(configs, server.StreamConfig{Name: text, Storage: server.FileStorage,
		Metadata: map[string]string{text: text, "": "", "é": "b", "e": "a", "😀": "d", "\ufffd": "c"}})
}

// consumerPolicies has every named value of a consumer's configuration.
func consumerPolicies() []server.ConsumerConfig {
	var configs []server.ConsumerConfig
	for i := 0; i <= 5; i++ {
		configs = append(configs, server.ConsumerConfig{
			DeliverPolicy:  server.DeliverPolicy(i),
			AckPolicy:      server.AckPolicy(i % 3),
			ReplayPolicy:   server.ReplayPolicy(i % 2),
			PriorityPolicy: server.PriorityPolicy(i % 4),
		})
	}
	return configs
}

// odd has times and lists at their edges.
func odd() server.StreamInfo {
	zone := time.FixedZone("", -(11*3600 + 30*60))
	return server.StreamInfo{
		Config:  server.StreamConfig{Storage: server.FileStorage, MaxBytes: -1 << 63},
		Created: time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		State: server.StreamState{
			Msgs: 1<<64 - 1, FirstTime: time.Date(2024, 2, 29, 1, 2, 3, 120_000_000, zone),
			LastTime: time.Unix(0, 1).UTC(), Lost: &server.LostStreamData{},
			Subjects: map[string]uint64{"b": 1, "a.>": 2},
		},
		TimeStamp: time.Unix(0, -1).UTC(),
	}
}

func refusal(kind string) server.ApiResponse {
	return server.ApiResponse{Type: kind, Error: server.ApiErrors[server.JSStreamNotFoundErr]}
}

func refusedInfo() server.JSApiStreamInfoResponse {
	return server.JSApiStreamInfoResponse{ApiResponse: refusal(server.JSApiStreamInfoResponseType)}
}

func refusedCreate() server.JSApiStreamCreateResponse {
	return server.JSApiStreamCreateResponse{
		ApiResponse: refusal(server.JSApiStreamCreateResponseType)}
}

func refusedConsumer() server.JSApiConsumerCreateResponse {
	return server.JSApiConsumerCreateResponse{
		ApiResponse: refusal(server.JSApiConsumerCreateResponseType)}
}

func refusedPublish() server.JSPubAckResponse {
	return server.JSPubAckResponse{Error: server.NewJSStreamWrongLastSequenceError(9),
		PubAck: &server.PubAck{Stream: "S"}}
}
