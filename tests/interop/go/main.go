// Go's x/oauth2 against our token endpoint: both styles, the style it finds by itself, and a wrong key.
// Prints each answer of the token endpoint on a line of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func config(secret string, style oauth2.AuthStyle) *clientcredentials.Config {
	return &clientcredentials.Config{
		ClientID:       os.Getenv("CLIENT"),
		ClientSecret:   secret,
		TokenURL:       os.Getenv("BASE") + "/oauth2/token",
		EndpointParams: url.Values{"audience": {os.Getenv("AUDIENCE")}},
		AuthStyle:      style,
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

func main() {
	styles := []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams, oauth2.AuthStyleAutoDetect}
	// A wrong key first: it must not keep the good one from being accepted.
	for _, style := range styles {
		_, err := config("csk_wrong", style).Token(context.Background())
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) || refused.Response.StatusCode != 401 ||
			!strings.Contains(string(refused.Body), `"invalid_client"`) {
			fail("style %d: a wrong key: %v", style, err)
		}
	}
	for _, style := range styles {
		token, err := config(os.Getenv("KEY"), style).Token(context.Background())
		if err != nil {
			fail("style %d: %v", style, err)
		}
		answer := map[string]any{
			"access_token": token.AccessToken,
			"token_type":   token.TokenType,
			"expires_in":   int(time.Until(token.Expiry).Seconds()),
		}
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			fail("%v", err)
		}
	}
}
