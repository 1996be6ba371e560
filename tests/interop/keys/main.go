// Makes what proves to a nats-server who one is: files of credentials and seeds of nkeys, of one user
// that the server knows and one that it does not. Tells in JSON what goes into the server's settings.
//
// The one argument is the folder for the files: user.creds, stranger.creds, user.nk, stranger.nk.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func main() {
	told, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(told)
}

// A key that signs, and its public half.
type pair struct {
	key    nkeys.KeyPair
	public string
}

func newPair(kind nkeys.PrefixByte) (pair, error) {
	key, err := nkeys.CreatePair(kind)
	if err != nil {
		return pair{}, err
	}
	public, err := key.PublicKey()
	return pair{key, public}, err
}

func run(args []string) (map[string]string, error) {
	if len(args) != 1 {
		return nil, errors.New("usage: keys FOLDER")
	}
	operator, err := newPair(nkeys.PrefixByteOperator)
	if err != nil {
		return nil, err
	}
	claims := jwt.NewOperatorClaims(operator.public)
	operatorJWT, err := claims.Encode(operator.key)
	if err != nil {
		return nil, err
	}
	told := map[string]string{"operator": operatorJWT}
	for _, account := range []string{"user", "stranger", "system"} {
		own, err := newPair(nkeys.PrefixByteAccount)
		if err != nil {
			return nil, err
		}
		signed, err := jwt.NewAccountClaims(own.public).Encode(operator.key)
		if err != nil {
			return nil, err
		}
		told[account+"_account"], told[account+"_jwt"] = own.public, signed
		if err := writeUser(args[0], account, own); err != nil {
			return nil, err
		}
		nkey, err := newPair(nkeys.PrefixByteUser)
		if err != nil {
			return nil, err
		}
		seed, err := nkey.key.Seed()
		if err != nil {
			return nil, err
		}
		told[account+"_nkey"] = nkey.public
		if err := os.WriteFile(filepath.Join(args[0], account+".nk"), seed, 0o600); err != nil {
			return nil, err
		}
	}
	return told, nil
}

// writeUser writes the credentials of a user of an account.
func writeUser(folder, name string, account pair) error {
	user, err := newPair(nkeys.PrefixByteUser)
	if err != nil {
		return err
	}
	signed, err := jwt.NewUserClaims(user.public).Encode(account.key)
	if err != nil {
		return err
	}
	seed, err := user.key.Seed()
	if err != nil {
		return err
	}
	credentials, err := jwt.FormatUserConfig(signed, seed)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name+".creds"), credentials, 0o600)
}
