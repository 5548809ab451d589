package verifier

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"math/big"
)

// key is a public key: what a token of it may call its algorithm, and what checks a signature.
type key struct {
	names []string
	check func(message, signature []byte) bool
}

func parseJWKS(text string) (map[string]key, error) {
	document, err := parseObject([]byte(text))
	if err != nil {
		return nil, err
	}
	var jwks []json.RawMessage
	if json.Unmarshal(document["keys"], &jwks) != nil || jwks == nil {
		return nil, errMalformed
	}
	named := map[string]key{}
	for _, jwk := range jwks {
		object, err := parseObject(jwk)
		if err != nil {
			return nil, err
		}
		r := &reader{members: object}
		kid := r.text("kid")
		one, isOurs := parseKey(r)
		isPinned := !r.has("alg") || contains(one.names, r.text("alg"))
		isForSignatures := !r.has("use") || r.text("use") == "sig"
		// One of another kind is left out.
		if isOurs && isPinned && isForSignatures && !r.failed {
			named[kid] = one
		}
	}
	return named, nil
}

func (r *reader) bytes(name string) []byte {
	data, err := decode(r.text(name))
	r.failed = r.failed || err != nil
	return data
}

func parseKey(r *reader) (key, bool) {
	number := func(data []byte) *big.Int { return new(big.Int).SetBytes(data) }
	kind := r.text("kty")
	if r.has("crv") {
		kind += " " + r.text("crv")
	}
	switch kind {
	case "EC P-256":
		x, y := r.bytes("x"), r.bytes("y")
		point := ecdsa.PublicKey{Curve: elliptic.P256(), X: number(x), Y: number(y)}
		isGood := len(x) == 32 && len(y) == 32 && point.Curve.IsOnCurve(point.X, point.Y)
		return key{[]string{"ES256"}, func(message, signature []byte) bool {
			hash := sha256.Sum256(message)
			return len(signature) == 64 &&
				ecdsa.Verify(&point, hash[:], number(signature[:32]), number(signature[32:]))
		}}, isGood
	case "OKP Ed25519":
		x := r.bytes("x")
		return key{[]string{"EdDSA", "Ed25519"}, func(message, signature []byte) bool {
			return ed25519.Verify(x, message, signature)
		}}, len(x) == ed25519.PublicKeySize
	case "RSA":
		n, e := number(r.bytes("n")), number(r.bytes("e"))
		isGood := n.BitLen() >= 2048 && n.BitLen() <= 8192 && e.BitLen() <= 31
		public := rsa.PublicKey{N: n, E: int(e.Int64())}
		return key{[]string{"RS256"}, func(message, signature []byte) bool {
			hash := sha256.Sum256(message)
			return rsa.VerifyPKCS1v15(&public, crypto.SHA256, hash[:], signature) == nil
		}}, isGood
	}
	return key{}, false
}

func contains(all []string, one string) bool {
	for _, other := range all {
		if other == one {
			return true
		}
	}
	return false
}
