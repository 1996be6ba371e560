package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// meta writes snapshot files of the group that assigns streams and consumers, as its leader leaves
// them on disk: of a stream with consumers, and of more streams.
func meta() {
	folder, err := os.MkdirTemp("", "vectors")
	must(err)
	defer os.RemoveAll(folder)
	servers := cluster(folder)
	defer func() {
		for _, one := range servers {
			one.Shutdown()
		}
	}()
	use(servers)
	snapshot(servers, folder, "stream_and_consumers")
	more(servers)
	snapshot(servers, folder, "streams")
}

// more adds a stream that lives in memory, and one whose texts Go escapes in JSON.
func more(servers []*server.Server) {
	connection, err := nats.Connect(servers[0].ClientURL(), nats.UserInfo("one", "one"))
	must(err)
	defer connection.Close()
	stream, err := connection.JetStream(nats.MaxWait(10 * time.Second))
	must(err)
	_, err = stream.AddStream(&nats.StreamConfig{Name: "MEMORY", Storage: nats.MemoryStorage,
		Subjects: []string{"m"}, MaxMsgs: 10, MaxAge: time.Hour})
	must(err)
	_, err = stream.AddStream(&nats.StreamConfig{Name: "ESCAPED", Description: "<a> & \"b\" \u2028",
		Subjects: []string{"e.>"}, Metadata: map[string]string{"k": "v&"}})
	must(err)
}

// snapshot has the leader write one, and keeps the newest file.
func snapshot(servers []*server.Server, folder, name string) {
	for try := 0; ; try++ {
		for i, one := range servers {
			if !one.JetStreamIsLeader() || one.JetStreamSnapshotMeta() != nil {
				continue
			}
			pattern := fmt.Sprintf("%s/%d/jetstream/SYS/_js_/_meta_/snapshots/*", folder, i)
			files, err := filepath.Glob(pattern)
			must(err)
			if len(files) == 1 {
				file, err := os.ReadFile(files[0])
				must(err)
				write(vector{Kind: "raft_snapshot", Name: name,
					Fields: fields{"group": "_meta_"}, Hex: hex.EncodeToString(file)})
				return
			}
		}
		if try == 100 {
			must(fmt.Errorf("no leader wrote a snapshot"))
		}
		time.Sleep(100 * time.Millisecond)
	}
}
