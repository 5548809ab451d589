"""What a service adds to judge access tokens by itself. `verifier_feed.follow` keeps it up to date.

    verifier = Verifier("https://auth.example.org", ["shop"])
    threading.Thread(target=follow, args=(verifier, channel, get_access_token), daemon=True).start()
    claims = verifier.verify(token, Demand(required_roles=["reader"]))

docs/verifier-protocol.md says what it must do; the cases of vectors/verifier/ are what it is tested with.
"""

import base64
import dataclasses
import json
import re
import threading
import time
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

MAX_TOKEN_LENGTH = 8192
KEY_FETCH_INTERVAL = 10  # seconds
KEPT_LONGER_MS = 60_000
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Refused(Exception):
    """The token is not accepted; `reason` is that of the contract. REVOCATION_STATE_STALE means: try again, not: log in again."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass
class Demand:
    audience: str | None = None
    required_roles: list[str] = dataclasses.field(default_factory=list)
    max_auth_age_seconds: int | None = None
    acceptable_acrs: list[str] = dataclasses.field(default_factory=list)
    client_certificate_sha256: bytes | None = None


class Verifier:
    """Keys and revocations, and the judgement of tokens by them. One thread feeds it, any number ask."""

    def __init__(self, issuer, audiences, leeway_seconds=0):
        self.issuer, self.audiences, self.leeway_ms = issuer, audiences, leeway_seconds * 1000
        self.keys, self.sessions, self.users = {}, {}, {}
        self.is_ready = self.is_current = False
        self.withdrawn, self.cursor, self.as_of, self.malformed = set(), "", None, 0
        self.keys_wanted, self.keys_asked = threading.Event(), 0.0

    def verify(self, token, demand=Demand(), now_ms=None):
        """The claims of a good token; raises Refused. It makes no call."""
        if not token:
            raise Refused("TOKEN_MISSING")
        if not self.is_ready:
            raise Refused("REVOCATION_STATE_STALE")
        now = int(time.time() * 1000) if now_ms is None else now_ms
        claims = self._verified(token)
        if not any(audience in self.audiences for audience in claims["aud"]) or claims["iss"] != self.issuer:
            raise Refused("TOKEN_INVALID")
        if now >= claims["exp"] * 1000 + self.leeway_ms:
            raise Refused("TOKEN_EXPIRED")
        if any(self._is_revoked(*named) for named in claims["principals"]):
            raise Refused("TOKEN_REVOKED")
        check_demand(demand, claims, now)
        return claims

    def _is_revoked(self, subject, session, token):
        user = self.users.get(subject)
        return session in self.sessions or user is not None and token is not None and uuid7_millis(token) <= user[0]

    def _verified(self, token):
        try:
            message, signature = token.encode("ascii").rsplit(b".", 1)
            head, payload = message.split(b".")
            if len(token) > MAX_TOKEN_LENGTH:
                raise ValueError("too long")
            header = json_object(decode(head))
            if header.get("typ") != "at+jwt" or "crit" in header or not are(str, header, "alg", "kid"):
                raise ValueError("header")
            key = self.keys.get(header["kid"])
            if key is None:
                raise KeyError(header["kid"])
            names, check = key
            if header["alg"] not in names:
                raise ValueError("algorithm")
            check(decode(signature), message)
            return checked_claims(json_object(decode(payload)))
        except KeyError:
            raise Refused(self._unknown_key()) from None
        except (ValueError, InvalidSignature, RecursionError):
            raise Refused("TOKEN_INVALID") from None

    def _unknown_key(self):
        if time.monotonic() - self.keys_asked < KEY_FETCH_INTERVAL:
            return "TOKEN_INVALID" if self.is_current else "REVOCATION_STATE_STALE"
        self.keys_wanted.set()
        return "REVOCATION_STATE_STALE"

    def set_jwks(self, text):
        """Replaces the keys; a document that cannot be read changes nothing."""
        keys = read_jwks(text)
        self.withdrawn = (self.withdrawn | set(self.keys)) - set(keys)
        self.keys = keys

    def add_jwks(self, text):
        """Adds keys of a document that may be older than ours."""
        new = {kid: key for kid, key in read_jwks(text).items() if kid not in self.withdrawn}
        self.keys = {**new, **self.keys}

    def revoke(self, session_id=None, user_id=None, not_before_ms=0, expire_ms=0):
        if session_id is not None:
            self.sessions[as_uuid(session_id)] = expire_ms
        else:
            before, end = self.users.get(as_uuid(user_id), (0, 0))
            self.users[as_uuid(user_id)] = (max(before, not_before_ms), max(end, expire_ms))

    def forget_expired(self, now_ms):
        limit = now_ms - self.leeway_ms - KEPT_LONGER_MS
        self.sessions = {key: end for key, end in self.sessions.items() if end > limit}
        self.users = {key: entry for key, entry in self.users.items() if entry[1] > limit}


def check_demand(demand, claims, now):
    if demand.audience is not None and demand.audience not in claims["aud"]:
        raise Refused("TOKEN_INVALID")
    bound = claims.get("cnf")
    if bound and decode(bound["x5t#S256"].encode()) != demand.client_certificate_sha256:
        raise Refused("TOKEN_INVALID")
    if not set(demand.required_roles) <= set(claims["roles"]):
        raise Refused("INSUFFICIENT_ROLE")
    if demand.max_auth_age_seconds is not None:
        at = claims.get("auth_time")
        if at is None or now // 1000 - at > demand.max_auth_age_seconds:
            raise Refused("STEP_UP_REQUIRED")
    if demand.acceptable_acrs and claims.get("acr") not in demand.acceptable_acrs:
        raise Refused("STEP_UP_REQUIRED")


def checked_claims(claims):
    claims["aud"] = [claims["aud"]] if isinstance(claims.get("aud"), str) else claims.get("aud")
    texts, optional = ("iss", "sub", "jti", "sid", "client_id"), {"auth_time": int, "acr": str}
    is_good = are(str, claims, *texts) and are(int, claims, "exp", "iat") and all(
        are(kind, claims, name) for name, kind in optional.items() if name in claims)
    for name in ("aud", "roles") + (("amr",) if "amr" in claims else ()):
        is_good = is_good and isinstance(claims[name] if name in claims else None, list) and all(
            isinstance(one, str) for one in claims[name])
    is_good = is_good and claims.get("principal_type", "service") == "service"
    actors, actor = [], claims
    while is_good and "act" in actor:
        actor = actor["act"]
        is_good = isinstance(actor, dict) and isinstance(actor.get("sub"), str)
        actors.append(actor)
    if "cnf" in claims:
        cnf = claims["cnf"]
        is_good = is_good and isinstance(cnf, dict) and list(cnf) == ["x5t#S256"] and isinstance(cnf["x5t#S256"], str)
        is_good = is_good and len(decode(cnf["x5t#S256"].encode())) == 32
    if not is_good:
        raise ValueError("claims")
    ids = {name: as_uuid(claims[name]) for name in ("sub", "sid", "jti")}
    # Whose revocation concerns the token: the subject, and every service that acts for it.
    principals = [(ids["sub"], ids["sid"], ids["jti"])]
    for actor in actors:
        sid, jti = (as_uuid(actor[name]) if name in actor else None for name in ("sid", "jti"))
        principals.append((as_uuid(actor["sub"]) if UUID.fullmatch(actor["sub"]) else None, sid, jti))
    return {**claims, **ids, "principals": principals}


def are(kind, members, *names):
    """Whether all of them are of that type. A bool is no int, and an int has 64 bits."""
    values = [members.get(name) for name in names]
    return all(type(value) is kind and (kind is not int or -(2**63) <= value < 2**63) for value in values)


def as_uuid(text):
    if not isinstance(text, str) or not UUID.fullmatch(text):
        raise ValueError("not a UUID in its hyphenated form")
    return uuid.UUID(text)


def uuid7_millis(one):
    return one.int >> 80 if one.version == 7 else 0


def decode(part):
    """base64url without padding and without stray bits."""
    if not re.fullmatch(rb"[A-Za-z0-9_-]*", part):
        raise ValueError("base64url")
    decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise ValueError("base64url")
    return decoded


def json_object(data):
    def unique(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member stands twice")
        return dict(pairs)

    def no_constant(name):
        raise ValueError(name)

    value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def read_jwks(text):
    keys = json_object(text.encode())["keys"]
    named = {}
    for jwk in keys:
        try:
            if jwk.get("use", "sig") == "sig" and isinstance(jwk["kid"], str):
                names, check = public_key(jwk)
                if jwk.get("alg", names[0]) in names:
                    named[jwk["kid"]] = (names, check)
        except (KeyError, ValueError):
            continue  # Of a kind that is not verified here.
    return named


def public_key(jwk):
    """The names of the key's algorithm, and what checks a signature."""
    number = lambda name: int.from_bytes(decode(jwk[name].encode()), "big")
    match (jwk["kty"], jwk.get("crv")):
        case ("EC", "P-256"):
            if any(len(decode(jwk[name].encode())) != 32 for name in "xy"):
                raise ValueError("coordinates")
            point = ec.EllipticCurvePublicNumbers(number("x"), number("y"), ec.SECP256R1()).public_key()

            def check(signature, message):
                if len(signature) != 64:
                    raise ValueError("signature")
                r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
                point.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))

            return ["ES256"], check
        case ("OKP", "Ed25519"):
            return ["EdDSA", "Ed25519"], ed25519.Ed25519PublicKey.from_public_bytes(decode(jwk["x"].encode())).verify
        case ("RSA", None) if 2048 <= number("n").bit_length() <= 8192:
            key = rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
            return ["RS256"], lambda signature, message: key.verify(signature, message, padding.PKCS1v15(), SHA256())
    raise ValueError("not a key for us")
