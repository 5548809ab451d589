// Package verifier is what a service adds to judge access tokens by itself.
//
//	v := verifier.New("https://auth.example.org", []string{"shop"})
//	go v.Follow(ctx, authv1.NewVerifierServiceClient(conn), getAccessToken)
//	claims, reason := v.Verify(token, verifier.Demand{RequiredRoles: []string{"reader"}}, time.Now())
//
// docs/verifier-protocol.md says what it must do; the cases of vectors/verifier/ are what it is tested with.
package verifier

import (
	"bytes"
	"strings"
	"sync"
	"time"
)

const (
	maxTokenLength   = 8192
	keyFetchInterval = 10 * time.Second
	keptLonger       = time.Minute
)

// Demand is what a service demands of a token besides that it is valid.
type Demand struct {
	Audience                *string
	RequiredRoles           []string
	MaxAuthAge              *time.Duration
	AcceptableACRs          []string
	ClientCertificateSHA256 []byte
}

// Verifier holds keys and revocations, and judges tokens by them.
type Verifier struct {
	issuer    string
	audiences []string
	leeway    time.Duration
	// KeysWanted asks the feed for keys, at most one request in ten seconds.
	keysWanted chan struct{}

	mutex     sync.RWMutex
	keys      map[string]key
	withdrawn map[string]bool
	revoked   revocations
	isReady   bool
	isCurrent bool
	keysAsked time.Time
	cursor    string
	malformed int
}

type revocations struct {
	sessions map[ID]int64
	users    map[ID]revokedUser
}

type revokedUser struct{ notBefore, expires int64 }

func noRevocations() revocations {
	return revocations{map[ID]int64{}, map[ID]revokedUser{}}
}

// New makes a verifier that knows nothing yet.
func New(issuer string, audiences []string) *Verifier {
	return &Verifier{
		issuer: issuer, audiences: audiences, keysWanted: make(chan struct{}, 1), withdrawn: map[string]bool{}, revoked: noRevocations(),
	}
}

// Verify returns the claims of a good token, or the reason of the contract. REVOCATION_STATE_STALE means: try again, not: log in
// again. It makes no call.
func (v *Verifier) Verify(token string, demand Demand, now time.Time) (*Claims, string) {
	v.mutex.RLock()
	defer v.mutex.RUnlock()
	if token == "" {
		return nil, "TOKEN_MISSING"
	}
	if !v.isReady {
		return nil, "REVOCATION_STATE_STALE"
	}
	claims, reason := v.verifySignature(token)
	if reason != "" {
		return nil, reason
	}
	isForUs := false
	for _, audience := range claims.Audiences {
		isForUs = isForUs || contains(v.audiences, audience)
	}
	if claims.Issuer != v.issuer || !isForUs {
		return nil, "TOKEN_INVALID"
	}
	if !now.Before(time.Unix(claims.ExpireTime, 0).Add(v.leeway)) {
		return nil, "TOKEN_EXPIRED"
	}
	isRevoked := v.revoked.session(&claims.SessionID) || v.revoked.user(claims.Subject, &claims.TokenID)
	for _, actor := range claims.Actors {
		subject, err := ParseID(actor.Subject)
		isRevoked = isRevoked || v.revoked.session(actor.SessionID) || err == nil && v.revoked.user(subject, actor.TokenID)
	}
	if isRevoked {
		return nil, "TOKEN_REVOKED"
	}
	if reason := demand.check(claims, now); reason != "" {
		return nil, reason
	}
	return claims, ""
}

func (v *Verifier) verifySignature(token string) (*Claims, string) {
	parts := strings.Split(token, ".")
	if len(token) > maxTokenLength || len(parts) != 3 {
		return nil, "TOKEN_INVALID"
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decode(part); err != nil {
			return nil, "TOKEN_INVALID"
		}
	}
	object, err := parseObject(decoded[0])
	header := &reader{members: object}
	typ, alg, kid := header.text("typ"), header.text("alg"), header.text("kid")
	if err != nil || header.failed || typ != "at+jwt" || header.has("crit") {
		return nil, "TOKEN_INVALID"
	}
	key, isKnown := v.keys[kid]
	if !isKnown {
		return nil, v.unknownKey()
	}
	message := token[:strings.LastIndexByte(token, '.')]
	if !contains(key.names, alg) || !key.check([]byte(message), decoded[2]) {
		return nil, "TOKEN_INVALID"
	}
	claims, err := parseClaims(decoded[1])
	if err != nil {
		return nil, "TOKEN_INVALID"
	}
	return claims, ""
}

func (v *Verifier) unknownKey() string {
	if time.Since(v.keysAsked) < keyFetchInterval {
		if v.isCurrent {
			return "TOKEN_INVALID"
		}
		return "REVOCATION_STATE_STALE"
	}
	select {
	case v.keysWanted <- struct{}{}:
	default:
	}
	return "REVOCATION_STATE_STALE"
}

func (d Demand) check(claims *Claims, now time.Time) string {
	if d.Audience != nil && !contains(claims.Audiences, *d.Audience) {
		return "TOKEN_INVALID"
	}
	if claims.CertificateSHA256 != nil && !bytes.Equal(claims.CertificateSHA256, d.ClientCertificateSHA256) {
		return "TOKEN_INVALID"
	}
	for _, role := range d.RequiredRoles {
		if !contains(claims.Roles, role) {
			return "INSUFFICIENT_ROLE"
		}
	}
	isRecent := d.MaxAuthAge == nil || claims.AuthTime != nil && now.Unix()-*claims.AuthTime <= int64(*d.MaxAuthAge/time.Second)
	isStrong := len(d.AcceptableACRs) == 0 || contains(d.AcceptableACRs, claims.ACR)
	if !isRecent || !isStrong {
		return "STEP_UP_REQUIRED"
	}
	return ""
}

// setJWKS replaces the keys; a document that cannot be read changes nothing.
func (v *Verifier) setJWKS(text string) error {
	keys, err := parseJWKS(text)
	if err != nil {
		return err
	}
	v.mutex.Lock()
	defer v.mutex.Unlock()
	for kid := range v.keys {
		v.withdrawn[kid] = true
	}
	for kid := range keys {
		delete(v.withdrawn, kid)
	}
	v.keys = keys
	return nil
}

// addJWKS adds keys of a document that may be older than ours.
func (v *Verifier) addJWKS(text string) error {
	found, err := parseJWKS(text)
	if err != nil {
		return err
	}
	v.mutex.Lock()
	defer v.mutex.Unlock()
	for kid, key := range found {
		if _, isKnown := v.keys[kid]; !isKnown && !v.withdrawn[kid] {
			v.keys[kid] = key
		}
	}
	return nil
}

func (r revocations) session(id *ID) bool {
	if id == nil {
		return false
	}
	_, isRevoked := r.sessions[*id]
	return isRevoked
}

// user tells whether the tokens of a subject are revoked that were issued when this one was.
func (r revocations) user(subject ID, token *ID) bool {
	user, isKnown := r.users[subject]
	return isKnown && token != nil && token.millis() <= user.notBefore
}

func (r revocations) revokeSession(id ID, expires int64) { r.sessions[id] = expires }

func (r revocations) revokeUser(id ID, notBefore, expires int64) {
	known, isKnown := r.users[id]
	if isKnown && known.notBefore > notBefore {
		notBefore = known.notBefore
	}
	if known.expires > expires {
		expires = known.expires
	}
	r.users[id] = revokedUser{notBefore, expires}
}

func (r revocations) forgetExpired(limit int64) {
	for id, expires := range r.sessions {
		if expires <= limit {
			delete(r.sessions, id)
		}
	}
	for id, user := range r.users {
		if user.expires <= limit {
			delete(r.users, id)
		}
	}
}
