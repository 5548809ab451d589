package verifier

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errMalformed = errors.New("malformed")

// ID is a UUID.
type ID [16]byte

// ParseID takes the hyphenated form only.
func ParseID(text string) (ID, error) {
	var id ID
	for _, at := range []int{8, 13, 18, 23} {
		if len(text) != 36 || text[at] != '-' {
			return id, errMalformed
		}
	}
	bare := strings.ReplaceAll(text, "-", "")
	if len(bare) != 32 {
		return id, errMalformed
	}
	_, err := hex.Decode(id[:], []byte(bare))
	return id, err
}

// millis is the time in an id of version 7, and 0 for any other.
func (id ID) millis() int64 {
	if id[6]>>4 != 7 {
		return 0
	}
	var millis int64
	for _, b := range id[:6] {
		millis = millis<<8 | int64(b)
	}
	return millis
}

// Claims are those of a token that was verified.
type Claims struct {
	Issuer, ClientID, ACR string
	Subject, SessionID    ID
	TokenID               ID
	Audiences, Roles, AMR []string
	ExpireTime, IssueTime int64
	AuthTime              *int64
	CertificateSHA256     []byte
	// IsService says that Subject is a service account.
	IsService bool
	// Actors are the services that act for the subject, the present one first.
	Actors []Actor
}

// Actor is a service that acts for the subject of a token. What is nil is not in the token.
type Actor struct {
	Subject            string
	SessionID, TokenID *ID
}

// members are those of a JSON object. encoding/json alone would take a member in another case for the same, and the last of two.
type members map[string]json.RawMessage

func parseObject(data []byte) (members, error) {
	if !utf8.Valid(data) || !json.Valid(data) || hasDoubles(json.NewDecoder(bytes.NewReader(data))) {
		return nil, errMalformed
	}
	var object members
	if err := json.Unmarshal(data, &object); err != nil || object == nil {
		return nil, errMalformed
	}
	return object, nil
}

// hasDoubles reads one value, and tells whether a member of an object in it stands twice.
func hasDoubles(decoder *json.Decoder) bool {
	token, err := decoder.Token()
	open, isDelimiter := token.(json.Delim)
	if err != nil || !isDelimiter {
		return err != nil
	}
	seen := map[string]bool{}
	for decoder.More() {
		if open == '{' {
			name, err := decoder.Token()
			text, isText := name.(string)
			if err != nil || !isText || seen[text] {
				return true
			}
			seen[text] = true
		}
		if hasDoubles(decoder) {
			return true
		}
	}
	_, err = decoder.Token()
	return err != nil
}

// reader reads members, and remembers whether one was malformed.
type reader struct {
	members
	failed bool
}

func (r *reader) has(name string) bool {
	_, has := r.members[name]
	return has
}

func (r *reader) text(name string) string {
	var text *string
	r.failed = r.failed || json.Unmarshal(r.members[name], &text) != nil || text == nil
	if text == nil {
		return ""
	}
	return *text
}

func (r *reader) integer(name string) int64 {
	number, err := strconv.ParseInt(string(r.members[name]), 10, 64)
	r.failed = r.failed || err != nil
	return number
}

func (r *reader) texts(name string) []string {
	var texts []*string
	r.failed = r.failed || json.Unmarshal(r.members[name], &texts) != nil || texts == nil
	all := make([]string, 0, len(texts))
	for _, text := range texts {
		if text == nil {
			r.failed = true
			continue
		}
		all = append(all, *text)
	}
	return all
}

func (r *reader) id(name string) ID {
	id, err := ParseID(r.text(name))
	r.failed = r.failed || err != nil
	return id
}

func (r *reader) optionalID(name string) *ID {
	if !r.has(name) {
		return nil
	}
	id := r.id(name)
	return &id
}

func (r *reader) object(name string) *reader {
	object, err := parseObject(r.members[name])
	r.failed = r.failed || err != nil
	return &reader{members: object, failed: r.failed}
}

func parseClaims(payload []byte) (*Claims, error) {
	object, err := parseObject(payload)
	if err != nil {
		return nil, err
	}
	r := &reader{members: object}
	claims := &Claims{
		Issuer: r.text("iss"), ClientID: r.text("client_id"), Subject: r.id("sub"), SessionID: r.id("sid"), TokenID: r.id("jti"),
		Roles: r.texts("roles"), ExpireTime: r.integer("exp"), IssueTime: r.integer("iat"),
	}
	if audience := object["aud"]; len(audience) > 0 && audience[0] == '"' {
		claims.Audiences = []string{r.text("aud")}
	} else {
		claims.Audiences = r.texts("aud")
	}
	if r.has("auth_time") {
		at := r.integer("auth_time")
		claims.AuthTime = &at
	}
	if r.has("acr") {
		claims.ACR = r.text("acr")
	}
	if r.has("amr") {
		claims.AMR = r.texts("amr")
	}
	for actor := r; actor.has("act") && !r.failed; {
		actor = actor.object("act")
		claims.Actors = append(claims.Actors, Actor{actor.text("sub"), actor.optionalID("sid"), actor.optionalID("jti")})
		r.failed = r.failed || actor.failed
	}
	if r.has("principal_type") {
		claims.IsService = r.text("principal_type") == "service"
		r.failed = r.failed || !claims.IsService
	}
	if r.has("cnf") {
		cnf := r.object("cnf")
		hash, err := decode(cnf.text("x5t#S256"))
		r.failed = r.failed || cnf.failed || err != nil || len(cnf.members) != 1 || len(hash) != 32
		claims.CertificateSHA256 = hash
	}
	if r.failed {
		return nil, errMalformed
	}
	return claims, nil
}

// decode reads base64url without padding, stray bits and line feeds.
func decode(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, errMalformed
	}
	return base64.RawURLEncoding.Strict().DecodeString(part)
}
