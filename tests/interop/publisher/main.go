// Publishes to a stream with nats.go's JetStream, as its users do, and tells what it was told.
//
// Arguments: the server's URL, user and password, a stream and one of its subjects. Answers with
// one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How long all of it may take.
const patience = 30 * time.Second

func main() {
	told, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(told)
}

func run(args []string) (map[string]any, error) {
	if len(args) != 5 {
		return nil, errors.New("usage: publisher URL USER PASSWORD STREAM SUBJECT")
	}
	stream, subject := args[3], args[4]
	connection, err := nats.Connect(args[0], nats.UserInfo(args[1], args[2]))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	told := map[string]any{}
	message := nats.NewMsg(subject)
	message.Data = []byte("from Go")
	message.Header.Set("Their-Own", "field")
	for _, try := range []string{"first", "again"} {
		ack, err := js.PublishMsg(limit, message, jetstream.WithMsgID("go-1"))
		if err != nil {
			return nil, err
		}
		told[try] = map[string]any{"seq": ack.Sequence, "stream": ack.Stream, "duplicate": ack.Duplicate}
	}
	var refused *jetstream.APIError
	_, err = js.Publish(limit, subject, nil, jetstream.WithExpectLastSequence(1<<40))
	if !errors.As(err, &refused) {
		return nil, fmt.Errorf("expected a refusal, found %v", err)
	}
	told["refused"] = refused.ErrorCode
	// Many at once, as asynchronous publishers do.
	var waiting []jetstream.PubAckFuture
	for n := range 500 {
		future, err := js.PublishAsync(subject, fmt.Appendf(nil, "async %d", n))
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, future)
	}
	sequences := map[uint64]bool{}
	for _, future := range waiting {
		select {
		case ack := <-future.Ok():
			sequences[ack.Sequence] = true
		case err := <-future.Err():
			return nil, err
		case <-limit.Done():
			return nil, limit.Err()
		}
	}
	told["async"] = len(sequences)
	info, err := js.Stream(limit, stream)
	if err != nil {
		return nil, err
	}
	told["messages"] = info.CachedInfo().State.Msgs
	last, err := info.GetLastMsgForSubject(limit, subject)
	if err != nil {
		return nil, err
	}
	told["last"] = string(last.Data)
	return told, nil
}
