//go:build tools

// Package tools keeps h2spec, whose own module names no versions, in go.mod: `make interop` builds it from there.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
