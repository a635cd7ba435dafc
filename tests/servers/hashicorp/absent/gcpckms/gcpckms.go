// Package gcpckms stands for Vault's auto-unseal of that name, which no test uses; see ../README.md.
package gcpckms

import aead "github.com/hashicorp/go-kms-wrapping/wrappers/aead/v2"

var NewWrapper = aead.NewWrapper
