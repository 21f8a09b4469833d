#!/bin/sh
# Builds Vault from the Go proxy: build.sh DIRECTORY, from this directory. The program is DIRECTORY/vault.
#
# Vault's repository holds the SDK that it is built with beside it; the proxy has the releases of that SDK. Between the two, one function
# gained a parameter, and another a result: three lines of Vault are changed to fit the release, none of them about logins.
# Only tests run it: nothing of it is committed or shipped.
set -eu
to=$1
go mod download github.com/hashicorp/vault # verified by go.sum
rm -rf "$to/source"
cp -r "$(go list -m -f '{{.Dir}}' github.com/hashicorp/vault)" "$to/source"
chmod -R u+w "$to/source"
change() {
  grep -q "$2" "$to/source/$1"
  sed -i "s/$2/$3/" "$to/source/$1"
}
change vault/identity_store_util.go 'activateDeduplication(ctx context.Context, req \*logical.Request)' 'activateDeduplication(ctx context.Context, req *logical.Request, _ string)'
change vault/logical_system_activation_flags.go 'ActivationFunc(ctx, nil)' 'ActivationFunc(ctx, nil, "")'
change builtin/logical/transit/path_restore.go 'restoredKeyName, err := ' 'restoredKeyName, err := keyName, '
cp go.mod go.sum tools.go "$to"
cd "$to"
go mod edit -replace=github.com/hashicorp/vault=./source
CGO_ENABLED=0 go build -trimpath -tags minimal -ldflags='-s -w' -o vault github.com/hashicorp/vault # the tag: logins by JWT, secrets, and few plugins more
rm -rf source
