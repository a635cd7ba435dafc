// A HashiCorp Vault server for the tests: Vault's own core and HTTP API (1.14, the last release under the MPL), kept
// in memory, without its command line and the cloud plugins that would take minutes to compile.
//
// It makes a new Vault, unseals it, and serves it on 127.0.0.1 until its standard input ends. The first line on
// standard output is a JSON object: the addresses `http`, `https` (with -tls) and `standby` (with -standby), the
// `root_token`, and the `unseal_key` in base64. Vault's log goes to standard error.
//
// Secrets engines: kv (1 and 2). Auth methods: token, approle, userpass, jwt. KV 2 is mounted at `secret/`.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	log "github.com/hashicorp/go-hclog"
	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

var secretsEngines = map[string]logical.Factory{"kv": kv.Factory}

var authMethods = map[string]logical.Factory{
	"approle": approle.Factory, "userpass": userpass.Factory, "jwt": jwt.Factory,
}

func main() {
	tlsDirectory := flag.String("tls", "", "also serve TLS, with server-cert.pem, server-key.pem and ca.pem from there")
	standby := flag.Bool("standby", false, "also run a standby node")
	flag.Parse()
	if err := serve(*tlsDirectory, *standby); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func serve(tlsDirectory string, standby bool) error {
	logger := log.New(&log.LoggerOptions{Output: os.Stderr, Level: log.Warn})
	storage, err := inmem.NewInmemHA(nil, logger)
	if err != nil {
		return err
	}
	ready := map[string]string{}
	core, err := listen(storage, logger, "http", nil, ready)
	if err != nil {
		return err
	}
	key, err := initialize(core, ready)
	if err != nil {
		return err
	}
	if tlsDirectory != "" {
		config, err := tlsConfig(tlsDirectory)
		if err != nil {
			return err
		}
		if err := serveCore(core, "https", config, ready); err != nil {
			return err
		}
	}
	if standby {
		other, err := listen(storage, logger, "standby", nil, ready)
		if err != nil {
			return err
		}
		if _, err := other.Unseal(key); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// listen makes a node and serves it under a name in `ready`, sealed as yet.
func listen(storage physical.Backend, logger log.Logger, name string, config *tls.Config, ready map[string]string) (*vault.Core, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		HAPhysical:         storage.(physical.HABackend),
		RedirectAddr:       "http://" + listener.Addr().String(),
		LogicalBackends:    secretsEngines,
		CredentialBackends: authMethods,
		BuiltinRegistry:    registry{},
		DisableMlock:       true,
		Logger:             logger,
	})
	if err != nil {
		return nil, err
	}
	serveOn(listener, core, name, config, ready)
	return core, nil
}

func serveCore(core *vault.Core, name string, config *tls.Config, ready map[string]string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	serveOn(listener, core, name, config, ready)
	return nil
}

func serveOn(listener net.Listener, core *vault.Core, name string, config *tls.Config, ready map[string]string) {
	scheme := "http"
	address := listener.Addr().String()
	if config != nil {
		scheme = "https"
		listener = tls.NewListener(listener, config)
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core:           core,
		ListenerConfig: &configutil.Listener{Address: address, MaxRequestSize: 32 << 20, MaxRequestDuration: time.Minute},
	})
	ready[name] = scheme + "://" + address
	go func() { _ = http.Serve(listener, handler) }()
}

// initialize makes a new Vault with one key share, unseals it and mounts KV 2 at secret/.
func initialize(core *vault.Core, ready map[string]string) ([]byte, error) {
	ctx := namespace.ContextWithNamespace(context.Background(), namespace.RootNamespace)
	made, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
	})
	if err != nil {
		return nil, err
	}
	key := made.SecretShares[0]
	if unsealed, err := core.Unseal(append([]byte(nil), key...)); err != nil || !unsealed {
		return nil, fmt.Errorf("not unsealed: %v", err)
	}
	for active, tries := false, 0; !active; tries++ {
		if active, _, _, err = core.Leader(); err != nil || tries > 3000 {
			return nil, fmt.Errorf("the node does not become active: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, err = core.HandleRequest(ctx, &logical.Request{
		Operation:   logical.UpdateOperation,
		ClientToken: made.RootToken,
		Path:        "sys/mounts/secret",
		Data:        map[string]interface{}{"type": "kv", "options": map[string]string{"version": "2"}},
	})
	ready["root_token"] = made.RootToken
	ready["unseal_key"] = base64.StdEncoding.EncodeToString(key)
	return key, err
}

// tlsConfig asks clients for a certificate and takes those of the CA, without insisting on one.
func tlsConfig(directory string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(directory+"/server-cert.pem", directory+"/server-key.pem")
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(directory + "/ca.pem")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, ClientCAs: pool,
		NextProtos: []string{"http/1.1"},
	}, nil
}

// registry tells Vault's plugin catalogue what is compiled in.
type registry struct{}

func (registry) factory(name string, kind consts.PluginType) (logical.Factory, bool) {
	factories := map[consts.PluginType]map[string]logical.Factory{
		consts.PluginTypeSecrets: secretsEngines, consts.PluginTypeCredential: authMethods,
	}
	factory, found := factories[kind][name]
	return factory, found
}

func (r registry) Contains(name string, kind consts.PluginType) bool {
	_, found := r.factory(name, kind)
	return found
}

func (r registry) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, found := r.factory(name, kind)
	return func() (interface{}, error) { return factory, nil }, found
}

func (registry) Keys(kind consts.PluginType) []string { return nil }

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
