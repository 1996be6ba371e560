package main

import (
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

var (
	moment      = time.Date(2023, 11, 14, 22, 13, 20, 123_456_789, time.UTC)
	counter     int64
	fixedValues = map[reflect.Type]any{
		reflect.TypeFor[time.Time]():               moment,
		reflect.TypeFor[server.RetentionPolicy]():  server.InterestPolicy,
		reflect.TypeFor[server.DiscardPolicy]():    server.DiscardPolicy(server.DiscardNew),
		reflect.TypeFor[server.StorageType]():      server.MemoryStorage,
		reflect.TypeFor[server.StoreCompression](): server.S2Compression,
		reflect.TypeFor[server.PersistModeType]():  server.AsyncPersistMode,
		reflect.TypeFor[server.DeliverPolicy]():    server.DeliverLastPerSubject,
		reflect.TypeFor[server.AckPolicy]():        server.AckExplicit,
		reflect.TypeFor[server.ReplayPolicy]():     server.ReplayOriginal,
		reflect.TypeFor[server.PriorityPolicy]():   server.PriorityPinnedClient,
	}
)

// fill sets every exported field, each to a value of its own.
func fill(pointer any) {
	set(reflect.ValueOf(pointer).Elem(), "")
}

func set(v reflect.Value, name string) {
	counter++
	if fixed, ok := fixedValues[v.Type()]; ok {
		v.Set(reflect.ValueOf(fixed))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text(name))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(counter)
	case reflect.Uint8, reflect.Uint16, reflect.Uint64:
		v.SetUint(uint64(counter))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		set(v.Elem(), name)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		set(v.Index(0), name)
		set(v.Index(1), name)
	case reflect.Map:
		setMap(v, name)
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			// Not in the servers that we go by, and never set by others.
			if field.IsExported() && field.Name != "Template" {
				set(v.Field(i), field.Name)
			}
		}
	default:
		panic(fmt.Sprintf("%s: %s", name, v.Type()))
	}
}

func setMap(v reflect.Value, name string) {
	v.Set(reflect.MakeMap(v.Type()))
	for range 3 {
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		set(key, name)
		set(value, name)
		v.SetMapIndex(key, value)
	}
}

// text is a value that fits a field: ids of peers have eight characters.
func text(name string) string {
	switch name {
	case "Peer", "Peers", "Preferred":
		return fmt.Sprintf("peer%04d", counter)
	case "Type":
		return server.JSApiStreamInfoResponseType
	}
	return fmt.Sprintf("%s<%d>", name, counter)
}
