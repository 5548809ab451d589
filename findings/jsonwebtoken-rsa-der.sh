#!/usr/bin/env bash
# jsonwebtoken 11.1.0: `EncodingKey::from_rsa_der` wants PKCS #1, its sisters for EC and Ed25519 want PKCS #8.
#
# The three constructors look alike, take any bytes and cannot fail. The PKCS #8 file of an RSA key is refused only when the first
# token is signed. `from_rsa_pem` accepts the very same PKCS #8 key in PEM. For EC keys it is the other way round: PKCS #8 signs and
# the traditional form (SEC 1) is refused.
#
# Output seen (feature rust_crypto):
#   from_rsa_pem PKCS #8: signs
#   from_rsa_der PKCS #8: Signing failed: signature error: PKCS#8 ASN.1 error: unexpected ASN.1 DER tag: expected INTEGER, got SEQUENCE …
#   from_rsa_der PKCS #1: signs
#   from_ec_der  PKCS #8: signs
#   from_ec_der  SEC 1:   InvalidEcdsaKey
#   from_ed_der  PKCS #8: signs
. "$(dirname "$0")/lib.sh"
python_packages cryptography==50.0.2
venv/bin/python - <<'EOF'
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

keys = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}
for name, encoding, form, file in [
    ("rsa", Encoding.PEM, PrivateFormat.PKCS8, "rsa-pkcs8.pem"),
    ("rsa", Encoding.DER, PrivateFormat.PKCS8, "rsa-pkcs8.der"),
    ("rsa", Encoding.DER, PrivateFormat.TraditionalOpenSSL, "rsa-pkcs1.der"),
    ("ec", Encoding.DER, PrivateFormat.PKCS8, "ec-pkcs8.der"),
    ("ec", Encoding.DER, PrivateFormat.TraditionalOpenSSL, "ec-sec1.der"),
    ("ed", Encoding.DER, PrivateFormat.PKCS8, "ed-pkcs8.der"),
]:
    with open(file, "wb") as out:
        out.write(keys[name].private_bytes(encoding, form, NoEncryption()))
EOF
rust_package <<'EOF'
jsonwebtoken = { version = "=11.1.0", features = ["rust_crypto"] }
serde_json = "=1.0.154"
EOF
cat > src/main.rs <<'EOF'
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

fn main() {
    let file = |name: &str| std::fs::read(name).unwrap();
    for (name, algorithm, key) in [
        ("from_rsa_pem PKCS #8:", Algorithm::RS256, EncodingKey::from_rsa_pem(&file("rsa-pkcs8.pem")).unwrap()),
        ("from_rsa_der PKCS #8:", Algorithm::RS256, EncodingKey::from_rsa_der(&file("rsa-pkcs8.der"))),
        ("from_rsa_der PKCS #1:", Algorithm::RS256, EncodingKey::from_rsa_der(&file("rsa-pkcs1.der"))),
        ("from_ec_der  PKCS #8:", Algorithm::ES256, EncodingKey::from_ec_der(&file("ec-pkcs8.der"))),
        ("from_ec_der  SEC 1:  ", Algorithm::ES256, EncodingKey::from_ec_der(&file("ec-sec1.der"))),
        ("from_ed_der  PKCS #8:", Algorithm::EdDSA, EncodingKey::from_ed_der(&file("ed-pkcs8.der"))),
    ] {
        match encode(&Header::new(algorithm), &serde_json::json!({ "sub": "ada" }), &key) {
            Ok(_) => println!("{name} signs"),
            Err(error) => println!("{name} {error}"),
        }
    }
}
EOF
cargo run --quiet | tee seen
[ "$(grep -c ' signs$' seen)" = 4 ]
grep '^from_rsa_der PKCS #8:' seen | grep -q 'Signing failed'
grep '^from_ec_der  SEC 1:' seen | grep -q 'InvalidEcdsaKey'
