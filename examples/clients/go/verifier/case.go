package verifier

import (
	"encoding/hex"
	"encoding/json"
	"time"
)

// A Case is one of vectors/verifier/, with what it does not say taken from its file.
type Case struct {
	Name           string          `json:"name"`
	Token          string          `json:"token"`
	Expect         string          `json:"expect"`
	Issuer         string          `json:"issuer"`
	Audiences      []string        `json:"audiences"`
	TimeMillis     int64           `json:"time_ms"`
	LeewaySeconds  int64           `json:"leeway_seconds"`
	JWKS           json.RawMessage `json:"jwks"`
	KeysAreCurrent *bool           `json:"keys_are_current"`
	Revocations    []struct {
		SessionID  string `json:"session_id"`
		UserID     string `json:"user_id"`
		NotBefore  int64  `json:"not_before_time_ms"`
		ExpireTime int64  `json:"expire_time_ms"`
	} `json:"revocations"`
	Demand struct {
		Audience        *string  `json:"audience"`
		RequiredRoles   []string `json:"required_roles"`
		MaxAuthAge      *int64   `json:"max_auth_age_seconds"`
		AcceptableACRs  []string `json:"acceptable_acrs"`
		CertificateHash string   `json:"client_certificate_sha256"`
	} `json:"demand"`
}

// Judge tells what a verifier says about the case.
func (c Case) Judge() (string, error) {
	v := New(c.Issuer, c.Audiences)
	v.leeway = time.Duration(c.LeewaySeconds) * time.Second
	v.isReady, v.isCurrent, v.keysAsked = true, c.KeysAreCurrent == nil || *c.KeysAreCurrent, time.Now()
	if err := v.setJWKS(string(c.JWKS)); err != nil {
		return "", err
	}
	for _, one := range c.Revocations {
		text := one.SessionID + one.UserID
		id, err := ParseID(text)
		if err != nil {
			return "", err
		}
		if one.SessionID != "" {
			v.revoked.revokeSession(id, one.ExpireTime)
		} else {
			v.revoked.revokeUser(id, one.NotBefore, one.ExpireTime)
		}
	}
	hash, err := hex.DecodeString(c.Demand.CertificateHash)
	if err != nil {
		return "", err
	}
	demand := Demand{
		Audience: c.Demand.Audience, RequiredRoles: c.Demand.RequiredRoles, AcceptableACRs: c.Demand.AcceptableACRs, ClientCertificateSHA256: hash,
	}
	if c.Demand.MaxAuthAge != nil {
		age := time.Duration(*c.Demand.MaxAuthAge) * time.Second
		demand.MaxAuthAge = &age
	}
	if _, reason := v.Verify(c.Token, demand, time.UnixMilli(c.TimeMillis)); reason != "" {
		return reason, nil
	}
	return "ACCEPT", nil
}
