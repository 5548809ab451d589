package verifier

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	authv1 "example.com/yourservice/gen/countersign/auth/v1"
)

const (
	silence          = 4 * time.Second
	snapshotPatience = 30 * time.Second
)

// ErrWrongCredential says that the server does not let this service watch. It is no outage: somebody must do something.
var ErrWrongCredential = errors.New("the credential is not accepted")

var errUnusable = errors.New("the snapshot has no keys")

// Follow follows the feed until ctx ends: it resumes after every break, and returns ErrWrongCredential when the server says no twice.
func (v *Verifier) Follow(ctx context.Context, client authv1.VerifierServiceClient, accessToken func(context.Context) (string, error)) error {
	go v.fetchKeys(ctx, client)
	delay, refusals := 200*time.Millisecond, 0
	for ctx.Err() == nil {
		token, err := accessToken(ctx)
		if err == nil {
			err = v.watch(ctx, client, token)
		}
		v.mutex.Lock()
		wasCurrent := v.isCurrent
		v.isCurrent = false
		if status.Code(err) == codes.InvalidArgument {
			v.cursor = ""
		}
		v.mutex.Unlock()
		switch code := status.Code(err); {
		case code != codes.Unauthenticated && code != codes.PermissionDenied:
			refusals = 0
		case wasCurrent: // An access token that has just expired is renewed.
			refusals = 1
		default:
			refusals++
		}
		if refusals > 1 {
			return fmt.Errorf("%w: %v", ErrWrongCredential, err)
		}
		if delay *= 2; wasCurrent {
			delay = 200 * time.Millisecond
		} else if delay > 5*time.Second {
			delay = 5 * time.Second
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay + time.Duration(rand.Int63n(int64(delay)))):
		}
	}
	return ctx.Err()
}

// ServiceKey gets a new access token for a service key with each call.
func ServiceKey(client authv1.TokenServiceClient, key string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		credential := &authv1.IssueTokenRequest_ServiceKey{ServiceKey: key}
		response, err := client.IssueToken(ctx, &authv1.IssueTokenRequest{Credential: credential})
		return response.GetAccessToken(), err
	}
}

func (v *Verifier) fetchKeys(ctx context.Context, client authv1.VerifierServiceClient) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.keysWanted:
		}
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		response, err := client.GetJwks(call, &authv1.GetJwksRequest{})
		cancel()
		if err == nil {
			v.count(v.addJWKS(response.GetJwksJson()))
		}
		v.mutex.Lock()
		v.keysAsked = time.Now()
		v.mutex.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(keyFetchInterval):
		}
	}
}

// count counts what was malformed and is left out.
func (v *Verifier) count(err error) {
	if err != nil {
		v.mutex.Lock()
		v.malformed++
		v.mutex.Unlock()
	}
}

// stream is one stream of the feed.
type stream struct {
	*Verifier
	// begun is the cursor that the stream was resumed from, until its first heartbeat.
	begun      string
	snapshot   revocations
	isComplete bool
}

func (v *Verifier) watch(ctx context.Context, client authv1.VerifierServiceClient, token string) error {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token))
	defer cancel()
	timer := time.AfterFunc(snapshotPatience, cancel)
	defer timer.Stop()
	v.mutex.RLock()
	s := &stream{Verifier: v, begun: v.cursor, snapshot: noRevocations()}
	v.mutex.RUnlock()
	messages, err := client.WatchRevocations(ctx, &authv1.WatchRevocationsRequest{Cursor: s.begun})
	for err == nil {
		var message *authv1.WatchRevocationsResponse
		if message, err = messages.Recv(); err == nil {
			err = s.apply(message)
		}
		patience := snapshotPatience
		if s.isComplete {
			patience = silence
		}
		timer.Reset(patience)
	}
	return err
}

func (s *stream) apply(message *authv1.WatchRevocationsResponse) error {
	switch event := message.Event.(type) {
	case *authv1.WatchRevocationsResponse_Jwks:
		s.count(s.setJWKS(event.Jwks.GetJwksJson()))
	case *authv1.WatchRevocationsResponse_Revocations:
		for _, one := range event.Revocations.GetRevocations() {
			s.count(s.learn(one))
		}
	case *authv1.WatchRevocationsResponse_SnapshotComplete:
		s.mutex.Lock()
		defer s.mutex.Unlock()
		if len(s.keys) == 0 {
			return errUnusable
		}
		if s.begun == "" {
			s.revoked, s.snapshot = s.snapshot, noRevocations()
		}
		s.isComplete, s.isCurrent, s.isReady = true, true, true
	case *authv1.WatchRevocationsResponse_Heartbeat:
		if s.isComplete {
			s.note(event.Heartbeat)
		}
	}
	return nil
}

func (s *stream) learn(one *authv1.Revocation) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	targets := []revocations{s.snapshot}
	if s.isComplete || s.begun != "" {
		targets = append(targets, s.revoked)
	}
	end := millis(one.GetExpireTime())
	for _, target := range targets {
		switch subject := one.Subject.(type) {
		case *authv1.Revocation_SessionId:
			id, err := ParseID(subject.SessionId)
			if err != nil {
				return err
			}
			target.revokeSession(id, end)
		case *authv1.Revocation_UserId:
			id, err := ParseID(subject.UserId)
			if err != nil || one.NotBeforeTime == nil {
				return errMalformed
			}
			target.revokeUser(id, millis(one.GetNotBeforeTime()), end)
		default:
			return errMalformed
		}
	}
	return nil
}

// millis cuts a protobuf time to milliseconds.
func millis(time interface {
	GetSeconds() int64
	GetNanos() int32
}) int64 {
	return time.GetSeconds()*1_000 + int64(time.GetNanos())/1_000_000
}

func (s *stream) note(heartbeat *authv1.Heartbeat) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.begun, s.snapshot = "", noRevocations()
	s.cursor = heartbeat.GetCursor()
	s.revoked.forgetExpired(time.Now().Add(-s.leeway - keptLonger).UnixMilli())
}
