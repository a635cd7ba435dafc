// Package awskms stands for Vault's auto-unseal of that name, which no test uses; see ../README.md.
package awskms

import (
	"github.com/hashicorp/go-hclog"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	aead "github.com/hashicorp/go-kms-wrapping/wrappers/aead/v2"
)

var NewWrapper = aead.NewWrapper

func WithLogger(hclog.Logger) wrapping.Option { return wrapping.WithConfigMap(nil) }
