package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	delivered = 7
	acks      = 8
	skip      = 10
	reset     = 18
)

// live writes what a consumer's group replicates while messages are delivered, acknowledged,
// delivered again, passed over, and, by servers that know that, begun anew: entries of these ops.
func live(ops ...byte) {
	folder, err := os.MkdirTemp("", "vectors")
	must(err)
	defer os.RemoveAll(folder)
	servers := cluster(folder)
	defer func() {
		for _, one := range servers {
			one.Shutdown()
		}
	}()
	system, err := nats.Connect(servers[0].ClientURL(), nats.UserInfo("system", "system"))
	must(err)
	defer system.Close()

	var lock sync.Mutex
	seen := map[byte][][]byte{}
	_, err = system.Subscribe("$NRG.AE.>", func(m *nats.Msg) {
		if !strings.HasPrefix(m.Subject, "$NRG.AE.C-") {
			return
		}
		lock.Lock()
		defer lock.Unlock()
		for _, data := range normal(m.Data) {
			if len(data) > 0 {
				seen[data[0]] = append(seen[data[0]], data)
			}
		}
	})
	must(err)
	must(system.Flush())
	use(servers)
	time.Sleep(2 * time.Second)

	lock.Lock()
	defer lock.Unlock()
	for _, op := range ops {
		if len(seen[op]) == 0 {
			must(fmt.Errorf("no entry of op %d was seen", op))
		}
		for i, data := range seen[op] {
			if i == 12 {
				break
			}
			write(vector{Kind: "consumer_op", Name: fmt.Sprintf("op_%d_%d", op, i),
				Fields: fields{"op": op}, Hex: hex.EncodeToString(data)})
		}
	}
}

// cluster starts three servers that know each other.
func cluster(folder string) []*server.Server {
	account := server.NewAccount("ONE")
	var servers []*server.Server
	var routes []string
	for i := range 3 {
		options := &server.Options{
			ServerName: fmt.Sprintf("n%d", i+1), Host: "127.0.0.1", Port: -1, NoSigs: true,
			JetStream: true, StoreDir: fmt.Sprintf("%s/%d", folder, i), NoLog: true,
			Cluster:       server.ClusterOpts{Name: "C1", Host: "127.0.0.1", Port: 17_420 + i},
			Accounts:      []*server.Account{server.NewAccount("SYS"), account},
			SystemAccount: "SYS",
		}
		options.Users = []*server.User{
			{Username: "system", Password: "system", Account: options.Accounts[0]},
			{Username: "one", Password: "one", Account: options.Accounts[1]},
		}
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", 17_420+i))
		options.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		one, err := server.NewServer(options)
		must(err)
		servers = append(servers, one)
	}
	for _, one := range servers {
		go one.Start()
	}
	for _, one := range servers {
		if !one.ReadyForConnections(30 * time.Second) {
			must(fmt.Errorf("%s is not ready", one.Name()))
		}
		enable(one)
	}
	return servers
}

// enable gives the account JetStream, as soon as the group of the servers has a leader.
func enable(one *server.Server) {
	account, err := one.LookupAccount("ONE")
	must(err)
	limits := map[string]server.JetStreamAccountLimits{
		"": {MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1}}
	for range 300 {
		if err = account.EnableJetStream(limits, nil); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	must(err)
}

// use makes a stream with consumers of three replicas do what they can.
func use(servers []*server.Server) {
	connection, err := nats.Connect(servers[0].ClientURL(), nats.UserInfo("one", "one"))
	must(err)
	defer connection.Close()
	stream, err := connection.JetStream(nats.MaxWait(10 * time.Second))
	must(err)
	for try := 0; ; try++ {
		_, err = stream.AddStream(&nats.StreamConfig{
			Name: "S", Subjects: []string{"s.>"}, Replicas: 3})
		if err == nil {
			break
		}
		if try == 60 {
			must(err)
		}
		time.Sleep(time.Second)
	}
	all, err := stream.PullSubscribe("s.>", "all", nats.AckExplicit(), nats.AckWait(time.Minute))
	must(err)
	some, err := stream.PullSubscribe("s.b", "some", nats.AckExplicit())
	must(err)
	for i := range 40 {
		subject := "s.a"
		if i%10 == 9 {
			subject = "s.b"
		}
		_, err = stream.Publish(subject, []byte("x"))
		must(err)
	}
	messages, err := all.Fetch(5)
	must(err)
	for i, message := range messages {
		if i == 0 {
			// Delivered again, and counted.
			must(message.Nak())
			continue
		}
		must(message.AckSync())
	}
	again, err := all.Fetch(1)
	must(err)
	must(again[0].AckSync())
	messages, err = some.Fetch(4)
	must(err)
	for _, message := range messages {
		must(message.AckSync())
	}
	// Nothing of this subject is left, so the consumer passes over the rest.
	for range 5 {
		_, err = stream.Publish("s.a", []byte("x"))
		must(err)
	}
	_, _ = some.Fetch(1, nats.MaxWait(2*time.Second))
	// Old servers do not answer, and nothing follows from it.
	for _, wish := range []string{`{"seq":3}`, ``, `{"seq":1}`} {
		_, _ = connection.Request("$JS.API.CONSUMER.RESET.S.all", []byte(wish), time.Second)
	}
}

// normal is the data of the normal entries of an append entry.
func normal(message []byte) (found [][]byte) {
	const head = 8 + 4*8 + 2
	if len(message) < head {
		return nil
	}
	count := binary.LittleEndian.Uint16(message[head-2:])
	rest := message[head:]
	for range count {
		length := binary.LittleEndian.Uint32(rest)
		if entry := rest[4 : 4+length]; entry[0] == 0 {
			found = append(found, entry[1:])
		}
		rest = rest[4+length:]
	}
	return found
}
