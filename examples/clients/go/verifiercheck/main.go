// Command verifiercheck tests package verifier: with the published cases, and with the feed of a running server.
//
//	go run ./verifiercheck ../../../vectors/verifier
//	go run ./verifiercheck ../../../vectors/verifier http://127.0.0.1:50051 ../../../target/debug/countersign
//
// The program makes a service account and its key, so it must be run where the server's database is found.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	authv1 "example.com/yourservice/gen/countersign/auth/v1"
	"example.com/yourservice/verifier"
)

const password = "a mill that weaves algebra"

func main() {
	checkCases(os.Args[1])
	if len(os.Args) > 2 {
		checkFeed(os.Args[2], os.Args[3])
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func checkCases(folder string) {
	count, wrong := 0, 0
	for _, path := range must(filepath.Glob(filepath.Join(folder, "*.json"))) {
		text := must(os.ReadFile(path))
		var file struct {
			verifier.Case
			Cases []json.RawMessage `json:"cases"`
		}
		if err := json.Unmarshal(text, &file); err != nil {
			log.Fatal(err)
		}
		for _, one := range file.Cases {
			known := file.Case
			// Nothing that is decoded into may be the file's.
			known.JWKS, known.Audiences = nil, nil
			if err := json.Unmarshal(one, &known); err != nil {
				log.Fatal(err)
			}
			if known.JWKS == nil {
				known.JWKS = file.JWKS
			}
			if known.Audiences == nil {
				known.Audiences = file.Audiences
			}
			count++
			if verdict := must(known.Judge()); verdict != known.Expect {
				wrong++
				log.Printf("%s: %s: %s, not %s", filepath.Base(path), known.Name, verdict, known.Expect)
			}
		}
	}
	if wrong > 0 || count < 200 {
		log.Fatalf("%d of %d cases are wrong", wrong, count)
	}
	fmt.Println(count, "cases")
}

// connect opens https://HOST:PORT with TLS, by the authorities of the system or of SSL_CERT_FILE. http:// encrypts nothing: it is
// for development, on one machine.
func connect(url string) (*grpc.ClientConn, error) {
	if address := strings.TrimPrefix(url, "http://"); address != url {
		return grpc.Dial(address, grpc.WithInsecure())
	}
	return grpc.Dial(strings.TrimPrefix(url, "https://"), grpc.WithTransportCredentials(credentials.NewTLS(nil)))
}

func checkFeed(url, program string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn := must(connect(url))
	auth := authv1.NewAuthServiceClient(conn)
	now := time.Now().UnixNano()
	gateway, ada := fmt.Sprintf("go-%d", now), fmt.Sprintf("ada%d@example.org", now)
	must(auth.Register(ctx, &authv1.RegisterRequest{Email: ada, Password: password}))
	must(exec.Command(program, "service-accounts", "create", gateway, "--role", "verifier").Output())
	key := string(bytes.TrimSpace(must(exec.Command(program, "service-keys", "create", gateway, "--expires-in", "1d").Output())))
	v := verifier.New("http://localhost:50051", []string{"countersign"})
	go v.Follow(ctx, authv1.NewVerifierServiceClient(conn), verifier.ServiceKey(authv1.NewTokenServiceClient(conn), key))
	tokens := must(auth.Login(ctx, &authv1.LoginRequest{Email: ada, Password: password})).GetTokens()
	becomes(v, tokens.GetAccessToken(), "")
	must(auth.Logout(ctx, &authv1.LogoutRequest{RefreshToken: tokens.GetRefreshToken()}))
	took := becomes(v, tokens.GetAccessToken(), "TOKEN_REVOKED")
	fmt.Println("revoked", took.Milliseconds(), "ms after the logout")
}

func becomes(v *verifier.Verifier, token, expected string) time.Duration {
	began := time.Now()
	for {
		_, reason := v.Verify(token, verifier.Demand{}, time.Now())
		if reason == expected {
			return time.Since(began)
		}
		if time.Since(began) > 30*time.Second {
			log.Fatalf("not in time: %q; %q", expected, reason)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
