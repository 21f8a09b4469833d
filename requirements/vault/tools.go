//go:build tools

// Package tools keeps Vault in go.mod: `make interop` builds it from there, with the tag `minimal`. Without that tag, and with `go mod tidy`,
// it has all its plugins, and Go fetches some gigabytes more.
package tools

import _ "github.com/hashicorp/vault/command"
