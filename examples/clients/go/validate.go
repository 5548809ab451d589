// Package authn is what a microservice adds to be protected by Countersign: an interceptor that
// validates tokens.
//
//	conn, err := grpc.NewClient("auth.example.org:443", grpc.WithTransportCredentials(credentials.NewTLS(nil)))
//	server := grpc.NewServer(grpc.UnaryInterceptor(authn.RequireToken(authv1.NewAuthServiceClient(conn))))
//
// The stubs are generated from proto/ with buf.gen.yaml; put your module's path there and below.
package authn

import (
	"context"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	authv1 "example.com/yourservice/gen/countersign/auth/v1"
)

const (
	errorDomain = "auth.countersign.v1"
	deadline    = 500 * time.Millisecond
)

type claimsKey struct{}

// Claims returns what the interceptor learnt about the caller; nil outside a protected call.
func Claims(ctx context.Context) *authv1.ValidateTokenResponse {
	claims, _ := ctx.Value(claimsKey{}).(*authv1.ValidateTokenResponse)
	return claims
}

// ErrorReason returns the stable reason of a failure, such as TOKEN_EXPIRED; empty when
// Countersign gave none. Decide by this, or by the status code; never by the message.
func ErrorReason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info.GetReason()
		}
	}
	return ""
}

// RequireToken lets a unary call through only with a good `authorization: Bearer` token that
// holds all of requiredRoles.
func RequireToken(auth authv1.AuthServiceClient, requiredRoles ...string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		claims, err := validate(ctx, auth, requiredRoles)
		if err != nil {
			return nil, err
		}
		return handler(context.WithValue(ctx, claimsKey{}, claims), request)
	}
}

func validate(ctx context.Context, auth authv1.AuthServiceClient, requiredRoles []string) (*authv1.ValidateTokenResponse, error) {
	var header string
	incoming, _ := metadata.FromIncomingContext(ctx)
	if values := incoming.Get("authorization"); len(values) > 0 {
		header = values[0]
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return nil, status.Error(codes.Unauthenticated, "TOKEN_MISSING")
	}

	// Without a deadline, a caller would wait for as long as the network likes.
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	claims, err := auth.ValidateToken(ctx, &authv1.ValidateTokenRequest{
		AccessToken:   token,
		RequiredRoles: requiredRoles,
	})
	switch status.Code(err) {
	case codes.OK:
		return claims, nil
	case codes.Unauthenticated, codes.PermissionDenied:
		return nil, status.Error(status.Code(err), ErrorReason(err))
	default:
		// No answer is not a "no": the client shall try again, not log in again.
		return nil, status.Error(codes.Unavailable, "cannot validate tokens right now")
	}
}
