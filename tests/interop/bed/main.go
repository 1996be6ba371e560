// Runs one real nats-server, and looks into it for whoever writes commands to its stdin.
//
// The one argument is the server's settings file. Commands and answers are JSON, one a line. One
// process is one server, so that a kill of it is a kill, and releases can meet in one cluster. It
// ends when its stdin does.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe" // also for go:linkname

	"github.com/nats-io/nats-server/v2/server"
)

//go:linkname lookupRaftNode github.com/nats-io/nats-server/v2/server.(*Server).lookupRaftNode
func lookupRaftNode(*server.Server, string) server.RaftNode

//go:linkname loadEntry github.com/nats-io/nats-server/v2/server.(*raft).loadEntry
func loadEntry(node unsafe.Pointer, index uint64) (unsafe.Pointer, error)

//go:linkname encodeEntry github.com/nats-io/nats-server/v2/server.(*appendEntry).encode
func encodeEntry(entry unsafe.Pointer, buffer []byte) ([]byte, error)

//go:linkname minElectionTimeout github.com/nats-io/nats-server/v2/server.minElectionTimeout
var minElectionTimeout time.Duration

//go:linkname maxElectionTimeout github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var maxElectionTimeout time.Duration

//go:linkname hbInterval github.com/nats-io/nats-server/v2/server.hbInterval
var hbInterval time.Duration

//go:linkname lostQuorumInterval github.com/nats-io/nats-server/v2/server.lostQuorumInterval
var lostQuorumInterval time.Duration

//go:linkname lostQuorumCheck github.com/nats-io/nats-server/v2/server.lostQuorumCheck
var lostQuorumCheck time.Duration

// How long a server may take to open its disk and ports.
const startWait = 30 * time.Second

// A command: what to do, and what with.
type command struct {
	Do string `json:"do"`
	// A raft group.
	Group string `json:"group"`
	// A peer, for a group's step down or change of members.
	Peer string `json:"peer"`
	// A stream, for its snapshot.
	Account string `json:"account"`
	Stream  string `json:"stream"`
	// A client's name.
	Name string `json:"name"`
}

// How a raft group stands here.
type group struct {
	Group   string   `json:"group"`
	Me      string   `json:"me"`
	State   string   `json:"state"`
	Leader  string   `json:"leader"`
	Term    uint64   `json:"term"`
	Last    uint64   `json:"last"`
	Commit  uint64   `json:"commit"`
	Applied uint64   `json:"applied"`
	Peers   []string `json:"peers"`
}

// A replicated stream of this server, and its group.
type stream struct {
	Account string   `json:"account"`
	Stream  string   `json:"stream"`
	Group   string   `json:"group"`
	Leader  string   `json:"leader"`
	State   any      `json:"state"`
	Others  []string `json:"others"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: bed SETTINGS")
	}
	options, err := server.ProcessConfigFile(os.Args[1])
	if err != nil {
		return err
	}
	options.NoSigs = true
	if factor := os.Getenv("BED_FASTER"); factor != "" {
		if err := faster(factor); err != nil {
			return err
		}
	}
	running, err := server.NewServer(options)
	if err != nil {
		return err
	}
	running.ConfigureLogger()
	running.Start()
	if !running.ReadyForConnections(startWait) {
		return errors.New("the server is not ready")
	}
	answer(map[string]any{"release": server.VERSION})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			answer(map[string]any{"error": err.Error()})
			continue
		}
		if asked.Do == "stop" {
			break
		}
		done, err := perform(running, &asked)
		if err != nil {
			done = map[string]any{"error": err.Error()}
		}
		answer(done)
	}
	running.Shutdown()
	running.WaitForShutdown()
	return lines.Err()
}

func answer(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		line, _ = json.Marshal(map[string]any{"error": err.Error()})
	}
	os.Stdout.Write(append(line, '\n'))
}

// faster divides the intervals of elections and heartbeats.
func faster(factor string) error {
	var by time.Duration
	if _, err := fmt.Sscan(factor, &by); err != nil || by < 1 {
		return fmt.Errorf("BED_FASTER: %q is not a number above zero", factor)
	}
	for _, interval := range []*time.Duration{
		&minElectionTimeout, &maxElectionTimeout, &hbInterval, &lostQuorumInterval, &lostQuorumCheck,
	} {
		*interval /= by
	}
	return nil
}

func perform(running *server.Server, asked *command) (any, error) {
	done := map[string]any{"done": true}
	switch asked.Do {
	case "streams":
		return streams(running)
	case "client":
		return client(running, asked.Name)
	case "snapshot":
		return done, running.JetStreamSnapshotStream(asked.Account, asked.Stream)
	}
	node := lookupRaftNode(running, asked.Group)
	if node == nil {
		return nil, fmt.Errorf("no group %q is here", asked.Group)
	}
	switch asked.Do {
	case "group":
		return describe(node), nil
	case "log":
		return records(node)
	case "stepdown":
		if asked.Peer == "" {
			return done, node.StepDown()
		}
		return done, node.StepDown(asked.Peer)
	case "campaign":
		return done, node.Campaign()
	case "add":
		return done, node.ProposeAddPeer(asked.Peer)
	case "remove":
		return done, node.ProposeRemovePeer(asked.Peer)
	}
	return nil, fmt.Errorf("nothing is known of %q", asked.Do)
}

func describe(node server.RaftNode) group {
	last, commit, applied := node.Progress()
	if strings.HasPrefix(server.VERSION, "2.10.") {
		// That release tells where the next record will stand.
		last--
	}
	peers := []string{}
	for _, peer := range node.Peers() {
		peers = append(peers, peer.ID)
	}
	slices.Sort(peers)
	return group{
		Group: node.Group(), Me: node.ID(), State: node.State().String(), Leader: node.GroupLeader(),
		Term: node.Term(), Last: last, Commit: commit, Applied: applied, Peers: peers,
	}
}

// records has what is left of a group's log: the places, and the bytes as they are sent.
func records(node server.RaftNode) (any, error) {
	// The second word of an interface points to what it holds.
	inside := (*[2]unsafe.Pointer)(unsafe.Pointer(&node))[1]
	last := describe(node).Last
	found := []any{}
	for index := uint64(1); index <= last; index++ {
		entry, err := loadEntry(inside, index)
		if err != nil {
			// It was compacted.
			continue
		}
		bytes, err := encodeEntry(entry, nil)
		if err != nil {
			return nil, err
		}
		found = append(found, map[string]any{"index": index, "hex": hex.EncodeToString(bytes)})
	}
	return map[string]any{"log": found}, nil
}

// client tells what a connected client has subscribed to and published.
func client(running *server.Server, name string) (any, error) {
	told, err := running.Connz(&server.ConnzOptions{})
	if err != nil {
		return nil, err
	}
	for _, one := range told.Conns {
		if one.Name == name {
			return map[string]any{"subscriptions": one.NumSubs, "published": one.InMsgs}, nil
		}
	}
	return map[string]any{"subscriptions": 0, "published": 0}, nil
}

func streams(running *server.Server) (any, error) {
	info, err := running.Jsz(&server.JSzOptions{Accounts: true, Streams: true, RaftGroups: true})
	if err != nil {
		return nil, err
	}
	found := []stream{}
	for _, account := range info.AccountDetails {
		for _, detail := range account.Streams {
			one := stream{
				Account: account.Name, Stream: detail.Name, Group: detail.RaftGroup,
				State: detail.State, Others: []string{},
			}
			if detail.Cluster != nil {
				one.Leader = detail.Cluster.Leader
				for _, other := range detail.Cluster.Replicas {
					one.Others = append(one.Others, other.Name)
				}
			}
			found = append(found, one)
		}
	}
	return map[string]any{"streams": found}, nil
}
