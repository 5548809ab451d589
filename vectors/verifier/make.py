"""Writes the cases of vectors/verifier/*.json: tokens made by joserfc, and what a verifier must say about each.

Run by scripts/vectors. Signatures are deterministic, so that the files change only when a case does. The keys in keys.json are for
tests alone: their private halves are published here.
"""

import base64
import functools
import hashlib
import hmac
import json
import pathlib
import sys

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc._rfc7518 import jws_algs
from joserfc.jwk import JWKRegistry
from joserfc.jws import JWSRegistry

# RFC 6979: an ECDSA signature without a random part.
jws_algs.ECDSA = functools.partial(ECDSA, deterministic_signing=True)

HERE = pathlib.Path(__file__).parent
ISSUER = "https://auth.example"
AUDIENCE = "shop"
# 2027-01-15T08:00:00.250Z
NOW = 1_800_000_000_250
SUB = "019b76da-a800-7a11-8c22-5f3e1d9b0a01"
SID = "019b76da-a900-7b12-9d33-6a4f2e8c1b02"
OTHER = "019b76da-aa00-7c13-ae44-7b5a3f7d2c03"
ALGORITHMS = {"es256": "ES256", "eddsa": "EdDSA", "rs256": "RS256"}
# alg -> what a JWK pins; EdDSA may be called Ed25519, too (RFC 9864).
NAMES = ["none", "None", "ES256", "EdDSA", "RS256", "ES384", "PS256", "RS512", "HS256"]

# The rules that a verifier of access tokens follows, as README.md lists them. Each has a token that is refused for it.
RULES = [f"RFC 8725 3.{section}" for section in range(1, 13)] + [
    f"RFC 9068 4: {rule}" for rule in ("typ", "encryption", "iss", "aud", "signature", "exp", "authorization")
]
# What a case's source says about them already.
IMPLIED = {
    **{f"RFC 8725 section 3.{section}": [f"RFC 8725 3.{section}"] for section in range(1, 13)},
    "RFC 7515 section 4.1.1": ["RFC 8725 3.1", "RFC 9068 4: signature"],
    "RFC 7515 section 5.2": ["RFC 8725 3.3", "RFC 9068 4: signature"],
    "RFC 8725 section 3.1": ["RFC 8725 3.1", "RFC 9068 4: signature"],
    "RFC 8725 section 3.8": ["RFC 8725 3.8", "RFC 9068 4: iss"],
    "RFC 8725 section 3.9": ["RFC 8725 3.9", "RFC 9068 4: aud"],
    "RFC 8725 section 3.11": ["RFC 8725 3.11", "RFC 9068 4: typ"],
    "RFC 9068 section 2.2.3": ["RFC 9068 4: authorization"],
    "RFC 7519 section 4.1.4": ["RFC 9068 4: exp"],
}

KEYS = {name: JWKRegistry.import_key(jwk) for name, jwk in json.loads((HERE / "keys.json").read_text()).items()}
KIDS = {name: key.thumbprint() for name, key in KEYS.items()}


def uuid7(millis, tail="7d14-8f55-8c6b4a6e3d04"):
    hexed = f"{millis:012x}"
    return f"{hexed[:8]}-{hexed[8:]}-{tail}"


JTI = uuid7(NOW - 60_000)


def b64(data):
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value):
    return value if isinstance(value, (str, bytes)) else json.dumps(value, separators=(",", ":"))


def signature(key, message, algorithm=None):
    algorithm = algorithm or ALGORITHMS[key.split("-")[0]]
    return JWSRegistry(algorithms=[algorithm]).get_alg(algorithm).sign(message.encode(), KEYS[key])


def header(key="es256", **changes):
    return changed({"alg": ALGORITHMS[key.split("-")[0]], "typ": "at+jwt", "kid": KIDS[key]}, changes)


def claims(**changes):
    return changed({
        "iss": ISSUER, "sub": SUB, "aud": [AUDIENCE], "exp": NOW // 1000 + 600, "iat": NOW // 1000 - 65, "jti": JTI,
        "sid": SID, "roles": ["reader", "writer"], "client_id": "countersign",
    }, changes)


REMOVED = object()


def changed(members, changes):
    members = dict(members)
    for name, value in changes.items():
        name = name.replace("x5t_S256", "x5t#S256")
        if value is REMOVED:
            members.pop(name, None)
        else:
            members[name] = value
    return members


def token(key="es256", head=None, body=None, algorithm=None):
    head = header(key) if head is None else head
    message = f"{b64(compact(head))}.{b64(compact(claims() if body is None else body))}"
    return f"{message}.{b64(signature(key, message, algorithm))}"


def public(name, **changes):
    return changed({**KEYS[name].as_dict(private=False), "kid": KIDS[name], "use": "sig", "alg": ALGORITHMS.get(name, "RS256")}, changes)


ALL = {"keys": [public(name) for name in ALGORITHMS]}


class File:
    def __init__(self, name, about):
        self.name, self.about, self.cases = name, about, []

    def case(self, name, token, expect, source, rfc=(), **more):
        allowed = {"time_ms", "leeway_seconds", "jwks", "keys_are_current", "revocations", "demand", "audiences"}
        assert set(more) <= allowed, more
        rules = [rule for rule in RULES if rule in (*IMPLIED.get(source, ()), *rfc)]
        assert set(rfc) <= set(rules), rfc
        case = {"name": name, "source": source, **({"rfc": rules} if rules else {}), "token": token, "expect": expect, **more}
        self.cases.append(case)

    def text(self):
        document = {
            "format": 1, "about": self.about, "issuer": ISSUER, "audiences": [AUDIENCE], "time_ms": NOW, "leeway_seconds": 0,
            "jwks": ALL, "cases": self.cases,
        }
        return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


OK, INVALID, EXPIRED, REVOKED = "ACCEPT", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED"
ROLE, STEP_UP, UNKNOWN, MISSING = "INSUFFICIENT_ROLE", "STEP_UP_REQUIRED", "REVOCATION_STATE_STALE", "TOKEN_MISSING"


def signatures():
    file = File("signatures", "The algorithm is that of the key, and the signature is checked (RFC 8725 sections 3.1 to 3.3).")
    for key, own in ALGORITHMS.items():
        file.case(f"{own}: a good token", token(key), OK, "RFC 7515 section 5.2")
        for name in NAMES:
            if name != own:
                more = ["RFC 8725 3.2"] if name.lower() == "none" else []
                file.case(f"{own}: the token says {name}", token(key, header(key, alg=name)), INVALID, "RFC 8725 section 3.1", more)
        unsigned = f"{b64(compact(header(key, alg='none')))}.{b64(compact(claims()))}."
        file.case(f"{own}: the token says none, and has no signature", unsigned, INVALID, "RFC 8725 section 3.2", ["RFC 8725 3.1", "RFC 9068 4: signature"])
        file.case(f"{own}: no algorithm", token(key, header(key, alg=REMOVED)), INVALID, "RFC 7515 section 4.1.1")
        file.case(f"{own}: the algorithm is no text", token(key, header(key, alg=[own])), INVALID, "RFC 7515 section 4.1.1")
        file.case(f"{own}: the algorithm in another case", token(key, header(key, alg=own.swapcase())), INVALID, "RFC 7515 section 4.1.1")
        good = token(key)
        message, _, encoded = good.rpartition(".")
        raw = signature(key, message)
        for where, at in (("first", 0), ("middle", len(raw) // 2), ("last", len(raw) - 1)):
            bad = bytes(byte ^ (1 if i == at else 0) for i, byte in enumerate(raw))
            file.case(f"{own}: the {where} byte of the signature is changed", f"{message}.{b64(bad)}", INVALID, "RFC 7515 section 5.2")
        file.case(f"{own}: a byte of the signature is missing", f"{message}.{b64(raw[:-1])}", INVALID, "RFC 7518 section 3")
        file.case(f"{own}: the signature has a byte more", f"{message}.{b64(raw + b'0')}", INVALID, "RFC 7518 section 3")
        file.case(f"{own}: no signature", f"{message}.", INVALID, "RFC 7515 section 5.2")
        file.case(f"{own}: a signature of zeros", f"{message}.{b64(bytes(len(raw)))}", INVALID, "RFC 7515 section 5.2", ["RFC 8725 3.4"])
        other = token(f"{key}-other", header(key))
        file.case(f"{own}: signed by another key", other, INVALID, "RFC 8725 section 3.3")
        more = b64(compact(claims(roles=["admin"])))
        file.case(f"{own}: the payload is another", f"{message.split('.')[0]}.{more}.{encoded}", INVALID, "RFC 8725 section 3.3")
        head = b64(compact(header(key, cty="JWT")))
        file.case(f"{own}: the header is another", f"{head}.{message.split('.')[1]}.{encoded}", INVALID, "RFC 8725 section 3.3")
        for third in ALGORITHMS:
            if third != key:
                crossed = token(third, header(key), algorithm=ALGORITHMS[third])
                file.case(f"{own}: signed by the {ALGORITHMS[third]} key of the same set", crossed, INVALID, "RFC 8725 section 3.1")
    raw = signature("es256", token().rpartition(".")[0])
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    file.case("ES256: the signature in DER", f"{token().rpartition('.')[0]}.{b64(der)}", INVALID, "RFC 7518 section 3.4")
    file.case("EdDSA: called Ed25519", token("eddsa", header("eddsa", alg="Ed25519")), OK, "RFC 9864 section 2.2")
    file.case("EdDSA: called Ed448", token("eddsa", header("eddsa", alg="Ed448")), INVALID, "RFC 8725 section 3.1")
    return file


def headers():
    file = File("headers", "Type, key name, extensions, and what a header may not decide (RFC 8725 sections 3.7 and 3.10 to 3.12, RFC 9068 section 4).")
    for typ in ("JWT", "id_token+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "at+jwt ", "at", "", None, 1, ["at+jwt"], {}):
        more = ["RFC 8725 3.12"] if typ and str(typ).endswith("+jwt") else []
        file.case(f"type {compact(typ) if not isinstance(typ, str) else repr(typ)}", token(head=header(typ=typ)), INVALID, "RFC 8725 section 3.11", more)
    file.case("no type", token(head=header(typ=REMOVED)), INVALID, "RFC 9068 section 4", ["RFC 8725 3.11", "RFC 9068 4: typ"])
    # RFC 9068 allows this name as well; our tokens never have it.
    for typ in ("application/at+jwt", "AT+JWT"):
        file.case(f"type {typ!r}", token(head=header(typ=typ)), INVALID, "verifier-protocol.md, row 3", ["RFC 8725 3.11"])
    file.case("a letter of the type is escaped", token(head=compact(header()).replace("at+jwt", "\\u0061t+jwt")), OK, "RFC 8259 section 8.3")
    for kid in ("", "unknown", None, 1, [KIDS["es256"]], {}, KIDS["es256"] + "=", " " + KIDS["es256"], "../keys.json", "https://other.example/key", "' OR 1=1 --"):
        name = repr(kid) if isinstance(kid, str) else compact(kid)
        more = ["RFC 8725 3.10"] if isinstance(kid, str) else []
        file.case(f"key name {name.replace(KIDS['es256'], '…')}", token(head=header(kid=kid)), INVALID, "RFC 7515 section 4.1.4", more)
    file.case("no key name", token(head=header(kid=REMOVED)), INVALID, "RFC 7515 section 4.1.4")
    file.case("the name of another key of the set", token(head=header(kid=KIDS["eddsa"])), INVALID, "RFC 8725 section 3.1")
    ignored = {
        "jku": "https://other.example/jwks", "x5u": "https://other.example/cert", "jwk": public("es256-other", alg="ES256"),
        "x5c": ["MA=="], "x5t": "AA", "cty": "JWT", "foo": {"bar": [1, 2, 3]},
    }
    for name, value in ignored.items():
        file.case(f"`{name}` is ignored", token(head=header(**{name: value})), OK, "RFC 8725 section 3.10")
    extensions(file)
    good = compact(header())
    doubled = good.replace('{"alg"', '{"alg":"ES256","alg"')
    file.case("`alg` twice", token(head=doubled), INVALID, "RFC 7515 section 4")
    file.case("`kid` twice", token(head=good[:-1] + f',"kid":"{KIDS["es256"]}"}}'), INVALID, "RFC 7515 section 4")
    file.case("`typ` twice", token(head=good[:-1] + ',"typ":"at+jwt"}'), INVALID, "RFC 7515 section 4")
    file.case("members in another order, with white space", token(head=f' {{ "kid" : "{KIDS["es256"]}" ,\n "typ":"at+jwt", "alg":"ES256" }} '), OK, "RFC 8259 section 2")
    for name, text in not_utf8(good.encode()):
        file.case(f"the header is {name}", token(head=text), INVALID, "RFC 8725 section 3.7")
    file.case("letters outside ASCII", token(head=good[:-1] + ',"foo":"Größe 尺"}'), OK, "RFC 8725 section 3.7")
    for name, text in (
        ("an array", "[]"), ("a string", '"ES256"'), ("null", "null"), ("a number", "1"), ("empty", ""), ("cut off", good[:-1]),
        ("followed by something", good + "x"), ("followed by another object", good + "{}"),
        ("with single quotes", good.replace('"', "'")), ("with a comment", good + "/**/"), ("with a trailing comma", good[:-1] + ",}"),
    ):
        file.case(f"the header is {name}", token(head=text), INVALID, "RFC 7519 section 7.2")
    return file


def not_utf8(good):
    """Names and texts of an object in other encodings. The wrong byte is in a member that is ignored."""
    text = good.decode()
    return (
        ("not UTF-8", good[:-1] + b',"foo":"\xff"}'), ("not UTF-8 in the name of a member", good[:-1] + b',"\xff":1}'),
        ("UTF-8 in too many bytes", good[:-1] + b',"foo":"\xc0\xaf"}'), ("UTF-8 with half of a surrogate pair", good[:-1] + b',"foo":"\xed\xa0\x80"}'),
        ("Latin-1", good[:-1] + ',"foo":"Größe"}'.encode("latin-1")), ("UTF-16", text.encode("utf-16-le")), ("UTF-16, big endian", text.encode("utf-16-be")),
        ("UTF-32", text.encode("utf-32-le")), ("UTF-8 with a byte order mark", b"\xef\xbb\xbf" + good),
    )


def extensions(file):
    """`crit` names what must be understood (RFC 7515 section 4.1.11). A verifier understands no extension, so that any `crit` is the end."""
    source = "RFC 7515 section 4.1.11"
    for name, changes in (
        ("an extension that nobody knows", {"crit": ["foo"], "foo": 1}), ("an extension that is not there", {"crit": ["foo"]}), ("nothing", {"crit": []}),
        ("`b64`, which is true (RFC 7797)", {"crit": ["b64"], "b64": True}), ("a claim", {"crit": ["exp"], "exp": NOW // 1000 + 600}), ("`alg`", {"crit": ["alg"]}),
        ("`alg`, `typ` and `kid`", {"crit": ["alg", "typ", "kid"]}), ("an extension twice", {"crit": ["foo", "foo"], "foo": 1}),
        ("a number", {"crit": [1]}), ("an empty name", {"crit": [""]}),
    ):
        file.case(f"`crit` names {name}", token(head=header(**changes)), INVALID, source, ["RFC 8725 3.3"])
    for value in (None, False, "b64", {}, 0):
        name = repr(value) if isinstance(value, str) else compact(value)
        file.case(f"`crit` is {name}", token(head=header(crit=value)), INVALID, source, ["RFC 8725 3.3"])
    unencoded = f"{b64(compact(header(b64=False, crit=['b64'])))}.{compact(claims())}"
    file.case("`crit` names `b64`, and the payload is not encoded (RFC 7797)", f"{unencoded}.{b64(signature('es256', unencoded))}", INVALID, source, ["RFC 8725 3.3"])
    escaped = compact(header())[:-1] + ',"\\u0063rit":["foo"],"foo":1}'
    file.case("`crit` with a letter that is escaped", token(head=escaped), INVALID, source, ["RFC 8725 3.3"])
    for key in ("eddsa", "rs256"):
        file.case(f"{ALGORITHMS[key]}: `crit` names an extension that nobody knows", token(key, header(key, crit=["foo"], foo=1)), INVALID, source, ["RFC 8725 3.3"])
    file.case("`Crit` is another name", token(head=header(Crit=["foo"])), OK, "RFC 7515 section 4")
    file.case("`b64` is true, without `crit`", token(head=header(b64=True)), OK, "RFC 7797 section 3")
    file.case("`crit` among the claims", token(body=claims(crit=["foo"])), OK, "RFC 7519 section 4")


def payloads():
    file = File("payloads", "The claims and their types (RFC 9068 sections 2.2 and 4, RFC 8725 sections 3.3, 3.7 to 3.9 and 3.12).")
    file.case("all claims", token(), OK, "RFC 9068 section 2.2")
    for name in claims():
        file.case(f"no `{name}`", token(body=claims(**{name: REMOVED})), INVALID, "RFC 9068 section 2.2")
        wrong = {"aud": (None, {}, True, 1, [1], [None]), "roles": (None, {}, True, "reader", [1]), "exp": (None, {}, True, "1800000600", 1.5, [1], 10**30), "iat": (None, {}, True, "1800000000", 1.5, [1])}
        for value in wrong.get(name, (None, {}, True, 1, [SUB])):
            file.case(f"`{name}` is {compact(value) if not isinstance(value, str) else repr(value)}", token(body=claims(**{name: value})), INVALID, "RFC 7519 section 4")
    for value in ("https://other.example", ISSUER + "/", ISSUER.upper(), ISSUER[:-1], "", ISSUER + ".other.example"):
        file.case(f"issuer {value!r}", token(body=claims(iss=value)), INVALID, "RFC 8725 section 3.8")
    for value in (["other"], [], ["SHOP"], ["shop2"], ["sho"], [""], "other", "", ["shop,other"]):
        file.case(f"audience {compact(value) if isinstance(value, list) else repr(value)}", token(body=claims(aud=value)), INVALID, "RFC 8725 section 3.9")
    file.case("one audience without an array", token(body=claims(aud=AUDIENCE)), OK, "RFC 7519 section 4.1.3")
    file.case("our audience among others", token(body=claims(aud=["a", AUDIENCE, "b"])), OK, "RFC 7519 section 4.1.3")
    for name in ("sub", "sid", "jti"):
        for value in ("", "ada", SUB.replace("-", ""), "{" + SUB + "}", "urn:uuid:" + SUB, SUB + "0", SUB[:-1] + "g"):
            more = ["RFC 8725 3.8"] if name == "sub" else []
            file.case(f"`{name}` is {value!r}", token(body=claims(**{name: value})), INVALID, "RFC 9562 section 4", more)
        upper = (JTI if name == "jti" else SUB).upper()
        file.case(f"`{name}` in upper case", token(body=claims(**{name: upper})), OK, "RFC 9562 section 4")
    file.case("no roles", token(body=claims(roles=[])), OK, "RFC 9068 section 2.2.3")
    file.case("unknown claims are ignored", token(body=claims(email="ada@example.org", scope=None, nested={"a": [1]})), OK, "RFC 7519 section 4")
    file.case("`iat` in the future", token(body=claims(iat=NOW // 1000 + 30)), OK, "verifier-protocol.md")
    for name, value in (
        ("auth_time", "1800000000"), ("auth_time", {}), ("amr", "pwd"), ("amr", [1]), ("acr", 1), ("acr", {}), ("act", "service"), ("act", {}),
        ("act", {"sub": 1}), ("act", {"sub": "a", "act": {}}), ("cnf", "x"), ("cnf", {}), ("cnf", {"jkt": "x"}), ("cnf", {"x5t#S256": "x"}),
        ("cnf", {"x5t#S256": 1}), ("auth_time", None), ("amr", None), ("acr", None), ("act", None), ("act", {"sub": "a", "act": None}), ("cnf", None),
    ):
        file.case(f"`{name}` is {compact(value) if not isinstance(value, str) else repr(value)}", token(body=claims(**{name: value})), INVALID, "RFC 7519 section 4")
    for value in ("user", "", "SERVICE", "device", 1, None, {}, ["service"]):
        file.case(f"principal type {compact(value) if not isinstance(value, str) else repr(value)}", token(body=claims(principal_type=value)), INVALID, "verifier-protocol.md, row 7")
    file.case("the token of a service account", token(body=claims(principal_type="service", client_id="orders")), OK, "verifier-protocol.md, row 7")
    for name in ("sid", "jti"):
        for value in ("orders", SID.replace("-", ""), 1, None):
            file.case(f"`{name}` of the actor is {compact(value) if not isinstance(value, str) else repr(value)}", token(body=claims(act={"sub": OTHER, name: value})), INVALID, "verifier-protocol.md, row 7")
    full = claims(auth_time=NOW // 1000 - 70, amr=["pwd", "otp", "mfa"], acr="urn:countersign:acr:2", act={"sub": OTHER, "client_id": "orders", "act": {"sub": SID}})
    file.case("`auth_time`, `amr`, `acr` and `act`", token(body=full), OK, "RFC 9068 section 2.2.1")
    good = compact(claims())
    for name in ("sub", "exp", "aud", "roles"):
        value = compact(claims()[name]) if name != "sub" else f'"{SUB}"'
        file.case(f"`{name}` twice", token(body=good[:-1] + f',"{name}":{value}}}'), INVALID, "RFC 7519 section 4")
    for name, text in (
        ("an array", "[]"), ("a string", '"x"'), ("null", "null"), ("a number", "1"), ("empty", ""), ("cut off", good[:-1]), ("followed by something", good + "x"),
    ):
        file.case(f"the payload is {name}", token(body=text), INVALID, "RFC 7519 section 7.2")
    for name, text in (*not_utf8(good.encode()), ("not UTF-8 in a role", good.encode().replace(b"reader", b"r\xff"))):
        file.case(f"the payload is {name}", token(body=text), INVALID, "RFC 8725 section 3.7")
    file.case("letters outside ASCII", token(body=good.replace("countersign", "Größe 尺")), OK, "RFC 8725 section 3.7")
    file.case("a letter of the issuer is escaped", token(body=good.replace(ISSUER, ISSUER.replace("auth", "\\u0061uth"))), OK, "RFC 8259 section 8.3")
    others = {
        "an ID token": {"nonce": "n", "at_hash": "h", **{name: REMOVED for name in ("sid", "jti", "client_id", "roles")}},
        "a logout token": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}, **{name: REMOVED for name in ("exp", "client_id", "roles")}},
        "a client assertion": {"iss": SUB, "aud": ISSUER, **{name: REMOVED for name in ("sid", "client_id", "roles")}},
        "an authorization request": {"response_type": "code", "scope": "openid", **{name: REMOVED for name in ("sub", "sid", "jti", "roles")}},
    }
    for name, changes in others.items():
        file.case(f"the claims of {name}", token(body=claims(**changes)), INVALID, "RFC 8725 section 3.12")
    file.case("the payload is a token", token(head=header(cty="JWT"), body=token()), INVALID, "RFC 8725 section 3.3")
    return file


def forms():
    file = File("forms", "The compact serialisation, and nothing else (RFC 7515 section 7.1, RFC 8725 sections 3.4 and 3.6).")
    good = token()
    head, body, mac = good.split(".")
    file.case("empty", "", MISSING, "verifier-protocol.md")
    for name, text in (
        ("a word", "token"), ("a dot", "."), ("two dots", ".."), ("three dots", "..."), ("one part", head), ("two parts", f"{head}.{body}"),
        ("four parts", f"{good}.{mac}"), ("five parts", f"{head}.{body}.{mac}.{body}.{mac}"), ("a dot before", f".{good}"), ("a dot after", f"{good}."),
        ("an empty header", f".{body}.{mac}"), ("an empty payload", f"{head}..{mac}"), ("a scheme before", f"Bearer {good}"), ("a space before", f" {good}"),
        ("a space after", f"{good} "), ("a line feed after", f"{good}\n"), ("a space inside", f"{head}. {body}.{mac}"), ("twice", good + good),
        ("the JSON serialisation", json.dumps({"protected": head, "payload": body, "signature": mac})),
        ("padding of the header", f"{head}=.{body}.{mac}"), ("padding of the payload", f"{head}.{body}=.{mac}"), ("padding of the signature", f"{good}=="),
        ("letters outside ASCII", f"{head}.{body}.{mac[:-1]}é"),
    ):
        file.case(name, text, INVALID, "RFC 7515 section 7.1")
    for name, more in (("encrypted", {}), ("compressed and encrypted", {"zip": "DEF"})):
        file.case(name, encrypted(more), INVALID, "RFC 9068 section 4", ["RFC 8725 3.6", "RFC 9068 4: encryption"])
    file.case("signed, and called compressed", token(head=header(zip="DEF"), body=b"\x78\x9c" + compact(claims()).encode()), INVALID, "RFC 8725 section 3.6")
    for size, expect in ((8192, OK), (8193, INVALID)):
        file.case(f"{size} bytes", sized(size), expect, "verifier-protocol.md")
    return file


def encrypted(more):
    """A JWE (RFC 7516 section 7.1), encrypted directly with a key that is no secret."""
    head = b64(compact({"alg": "dir", "enc": "A128GCM", "typ": "at+jwt", "kid": KIDS["es256"], **more}))
    sealed = AESGCM(b"k" * 16).encrypt(b"n" * 12, compact(claims()).encode(), head.encode())
    return f"{head}..{b64(b'n' * 12)}.{b64(sealed[:-16])}.{b64(sealed[-16:])}"


def sized(size):
    """A good token of exactly so many bytes: two members that are ignored fill it up, four characters of base64 for three bytes."""
    for extra in range(3):
        for fill in range((size - 400) * 3 // 4 - 700, size):
            made = token(head=header(pad="p" * extra), body=claims(pad="p" * fill))
            if len(made) == size:
                return made
            if len(made) > size:
                break
    raise AssertionError(size)


def times():
    file = File("times", "Expiry, to the millisecond (RFC 7519 section 4.1.4).")
    end = NOW // 1000 + 600
    good = token()
    for key in ALGORITHMS:
        made = token(key)
        file.case(f"{ALGORITHMS[key]}: a millisecond before the end", made, OK, "RFC 7519 section 4.1.4", time_ms=end * 1000 - 1)
        file.case(f"{ALGORITHMS[key]}: at the end", made, EXPIRED, "RFC 7519 section 4.1.4", time_ms=end * 1000)
    file.case("a day after the end", good, EXPIRED, "RFC 7519 section 4.1.4", time_ms=end * 1000 + 86_400_000)
    file.case("a year before its issue", good, OK, "verifier-protocol.md", time_ms=NOW - 31_536_000_000)
    file.case("leeway: a millisecond before its end", good, OK, "RFC 7519 section 4.1.4", time_ms=end * 1000 + 4_999, leeway_seconds=5)
    file.case("leeway: at its end", good, EXPIRED, "RFC 7519 section 4.1.4", time_ms=end * 1000 + 5_000, leeway_seconds=5)
    for exp in (0, -1, 1):
        file.case(f"`exp` is {exp}", token(body=claims(exp=exp)), EXPIRED, "RFC 7519 section 4.1.4")
    file.case("`exp` in the year 9999", token(body=claims(exp=253_402_300_799)), OK, "RFC 7519 section 4.1.4")
    file.case("expired and signed by another key", token("es256-other", header(), claims(exp=1)), INVALID, "verifier-protocol.md")
    file.case("expired and of another issuer", token(body=claims(exp=1, iss="https://other.example")), INVALID, "verifier-protocol.md")
    return file


def of_session(session):
    return {"session_id": session, "expire_time_ms": NOW + 3_600_000}


def of_user(user, not_before):
    return {"user_id": user, "not_before_time_ms": not_before, "expire_time_ms": NOW + 3_600_000}


def revocations():
    file = File("revocations", "Revoked sessions and users (verifier-protocol.md).")
    at = NOW - 60_000
    source = "verifier-protocol.md"
    for name, revoked, expect in (
        ("the session", [of_session(SID)], REVOKED), ("another session", [of_session(OTHER)], OK), ("the session, in upper case", [of_session(SID.upper())], REVOKED),
        ("the session among others", [of_session(OTHER), of_session(SID), of_user(OTHER, NOW)], REVOKED), ("the session, twice", [of_session(SID), of_session(SID)], REVOKED),
        ("a session with the id of the user", [of_session(SUB)], OK), ("a session with the id of the token", [of_session(JTI)], OK),
        ("the user, a millisecond before the issue", [of_user(SUB, at - 1)], OK), ("the user, in the millisecond of the issue", [of_user(SUB, at)], REVOKED),
        ("the user, a millisecond after the issue", [of_user(SUB, at + 1)], REVOKED), ("the user, after `iat` and before the issue", [of_user(SUB, at - 2_000)], OK),
        ("another user", [of_user(OTHER, NOW)], OK), ("a user with the id of the session", [of_user(SID, NOW)], OK), ("the user, in upper case", [of_user(SUB.upper(), at)], REVOKED),
        ("the user twice, the later first", [of_user(SUB, at), of_user(SUB, at - 9)], REVOKED), ("the user twice, the later last", [of_user(SUB, at - 9), of_user(SUB, at)], REVOKED),
        ("the user twice, both before", [of_user(SUB, at - 9), of_user(SUB, at - 1)], OK), ("nothing", [], OK),
    ):
        file.case(f"revoked: {name}", token(), expect, source, revocations=revoked)
    for key in ALGORITHMS:
        file.case(f"{ALGORITHMS[key]}: the session is revoked", token(key), REVOKED, source, revocations=[of_session(SID)])
    # A service that acts for the user, and one that acted before it.
    first, second, key, other_key = (uuid7(NOW - 1_000_000, f"7d14-8f55-8c6b4a6e3d{number:02}") for number in (11, 12, 13, 14))
    before = {"sub": second, "sid": other_key, "jti": uuid7(NOW - 90_000)}
    acting = {"sub": first, "sid": key, "jti": uuid7(NOW - 80_000), "act": before}
    delegated = token(body=claims(act=acting))
    for name, revoked, expect in (
        ("nothing", [], OK), ("another session and another user", [of_session(OTHER), of_user(OTHER, NOW)], OK),
        ("the actor's key", [of_session(key)], REVOKED), ("the key of the actor before it", [of_session(other_key)], REVOKED),
        ("the actor, before it got its token", [of_user(first, NOW - 80_001)], OK), ("the actor, when it got its token", [of_user(first, NOW - 80_000)], REVOKED),
        ("the actor before it, before it got its token", [of_user(second, NOW - 90_001)], OK), ("the actor before it, afterwards", [of_user(second, NOW)], REVOKED),
        ("the actor, in upper case", [of_user(first.upper(), NOW)], REVOKED), ("the session of the user", [of_session(SID)], REVOKED), ("the user", [of_user(SUB, NOW)], REVOKED),
    ):
        file.case(f"revoked, with actors: {name}", delegated, expect, source, revocations=revoked)
    nameless = token(body=claims(act={"sub": "orders"}))
    file.case("an actor whose `sub` is no UUID, without `sid` and `jti`", nameless, OK, source, revocations=[of_session(OTHER), of_user(OTHER, NOW)])
    random_id = token(body=claims(jti=uuid7(at, "4d14-8f55-8c6b4a6e3d04")))
    file.case("a token id of version 4, nothing revoked", random_id, OK, source)
    file.case("a token id of version 4, the user revoked long ago", random_id, REVOKED, source, revocations=[of_user(SUB, 1)])
    expired = token(body=claims(exp=NOW // 1000 - 1))
    file.case("expired and revoked", expired, EXPIRED, source, revocations=[of_session(SID)])
    forged = token("es256-other", header())
    file.case("forged and revoked", forged, INVALID, source, revocations=[of_session(SID)])
    lacking = {"required_roles": ["admin"]}
    file.case("revoked and without the role", token(), REVOKED, source, revocations=[of_session(SID)], demand=lacking)
    return file


def demands():
    file = File("demands", "What a service demands besides (RFC 9068 section 4, RFC 9470 section 3, RFC 8705 section 3).")
    two = [AUDIENCE, "billing"]
    both = token(body=claims(aud=two))
    for name, made, demand, expect in (
        ("its only audience", token(), {"audience": AUDIENCE}, OK), ("another audience", token(), {"audience": "billing"}, INVALID), ("one of two audiences", both, {"audience": "billing"}, OK),
        ("an audience in another case", both, {"audience": "Billing"}, INVALID),
    ):
        file.case(f"demands {name}", made, expect, "RFC 8725 section 3.9", demand=demand, audiences=two)
    file.case("two audiences of the verifier, the token has one", token(body=claims(aud=["billing"])), OK, "RFC 8725 section 3.9", audiences=two)
    for roles, expect in ((["reader"], OK), (["reader", "writer"], OK), (["admin"], ROLE), (["reader", "admin"], ROLE), (["READER"], ROLE), ([""], ROLE), (["reader "], ROLE), ([], OK)):
        file.case(f"demands roles {compact(roles)}", token(), expect, "RFC 9068 section 2.2.3", demand={"required_roles": roles})
    file.case("demands a role of a token without any", token(body=claims(roles=[])), ROLE, "RFC 9068 section 2.2.3", demand={"required_roles": ["reader"]})
    for ago, most, expect in ((60, 120, OK), (119, 120, OK), (120, 120, OK), (121, 120, STEP_UP), (-5, 0, OK), (86_400, 120, STEP_UP)):
        made = token(body=claims(auth_time=NOW // 1000 - ago))
        file.case(f"a login {ago} s ago, at most {most} s", made, expect, "RFC 9470 section 3", demand={"max_auth_age_seconds": most})
    file.case("a maximum age, and no `auth_time`", token(), STEP_UP, "RFC 9470 section 3", demand={"max_auth_age_seconds": 120})
    weak, strong = "urn:countersign:acr:1", "urn:countersign:acr:2"
    for acr, accepted, expect in ((strong, [strong], OK), (strong, [weak, strong], OK), (weak, [strong], STEP_UP), (strong.upper(), [strong], STEP_UP), ("", [strong], STEP_UP)):
        file.case(f"acr {acr!r}, accepted {compact(accepted)}", token(body=claims(acr=acr)), expect, "RFC 9470 section 3", demand={"acceptable_acrs": accepted})
    file.case("an `acr` is demanded and there is none", token(), STEP_UP, "RFC 9470 section 3", demand={"acceptable_acrs": [strong]})
    file.case("neither role nor recent login", token(), ROLE, "verifier-protocol.md", demand={"required_roles": ["admin"], "max_auth_age_seconds": 1})
    mine, other = (hashlib.sha256(name).digest() for name in (b"mine", b"other"))
    bound = token(body=claims(cnf={"x5t#S256": b64(mine)}))
    for name, made, sent, expect in (
        ("the bound certificate", bound, mine, OK), ("another certificate", bound, other, INVALID), ("no certificate", bound, None, INVALID), ("a certificate and a token that is bound to none", token(), mine, OK),
        ("a bound certificate of 31 bytes", token(body=claims(cnf={"x5t#S256": b64(mine[:31])})), mine, INVALID),
    ):
        demand = {"client_certificate_sha256": sent.hex()} if sent else {}
        file.case(f"sends {name}", made, expect, "RFC 8705 section 3", demand=demand)
    return file


def key_sets():
    file = File("key_sets", "The JWK set decides which keys there are (RFC 7517, RFC 8725 sections 3.1 to 3.5).")
    for key, own in ALGORITHMS.items():
        made = token(key)
        one = lambda **changes: {"keys": [public(key, **changes)]}
        file.case(f"{own}: the only key", made, OK, "RFC 7517 section 5", jwks=one())
        file.case(f"{own}: a key without `alg` and `use`", made, OK, "RFC 7517 section 4", jwks=one(alg=REMOVED, use=REMOVED))
        file.case(f"{own}: a key with members that nobody knows", made, OK, "RFC 7517 section 4", jwks=one(foo="bar", nbf=1))
        file.case(f"{own}: a key for encryption", made, INVALID, "RFC 7517 section 4.2", jwks=one(use="enc"))
        file.case(f"{own}: a key for another algorithm", made, INVALID, "RFC 8725 section 3.1", jwks=one(alg="PS256" if own == "RS256" else "RS256"))
        file.case(f"{own}: the key has another name", made, INVALID, "RFC 7517 section 4.5", jwks=one(kid="another"))
        file.case(f"{own}: a key without a name", made, INVALID, "RFC 7517 section 4.5", jwks=one(kid=REMOVED))
        gone = {"keys": [jwk for jwk in ALL["keys"] if jwk["kid"] != KIDS[key]]}
        file.case(f"{own}: the key was withdrawn", made, INVALID, "verifier-protocol.md", jwks=gone)
        file.case(f"{own}: the key is not known, and keys may be missing", made, UNKNOWN, "verifier-protocol.md", jwks=gone, keys_are_current=False)
        file.case(f"{own}: known, and other keys may be missing", made, OK, "verifier-protocol.md", keys_are_current=False)
        forged = token(f"{key}-other", header(key))
        file.case(f"{own}: signed by another key, and keys may be missing", forged, INVALID, "verifier-protocol.md", keys_are_current=False)
        file.case(f"{own}: the name of the key with another key's value", made, INVALID, "RFC 8725 section 3.3", jwks={"keys": [public(f"{key}-other", kid=KIDS[key], alg=own)]})
        foreign = {"kty": "OKP", "crv": "X25519", "kid": "x", "x": b64(b"x" * 32)}
        secret = {"kty": "oct", "kid": "o", "k": b64(b"k" * 32)}
        curve = {"kty": "EC", "crv": "P-384", "kid": "c", "x": b64(b"c" * 48), "y": b64(b"c" * 48)}
        mixed = {"keys": [foreign, secret, curve, public(key)]}
        file.case(f"{own}: beside keys of other kinds", made, OK, "RFC 7517 section 5", jwks=mixed)
    no_key = {"keys": []}
    file.case("no keys", token(), INVALID, "verifier-protocol.md", jwks=no_key)
    file.case("no keys, and keys may be missing", token(), UNKNOWN, "verifier-protocol.md", jwks=no_key, keys_are_current=False)
    file.case("another type, and keys may be missing", token(head=header(typ="JWT")), INVALID, "verifier-protocol.md", jwks=no_key, keys_are_current=False)
    file.case("a word, and keys may be missing", "token", INVALID, "verifier-protocol.md", jwks=no_key, keys_are_current=False)
    file.case("ES256: a point that is not on the curve", token(), INVALID, "RFC 8725 section 3.4", jwks={"keys": [public("es256", y=public("es256")["x"])]})
    file.case("ES256: a coordinate of 31 bytes", token(), INVALID, "RFC 7518 section 6.2.1.2", jwks={"keys": [public("es256", x=public("es256")["x"][:-2])]}, rfc=["RFC 8725 3.4"])
    file.case("EdDSA: a key of 31 bytes", token("eddsa"), INVALID, "RFC 8037 section 2", jwks={"keys": [public("eddsa", x=b64(b"x" * 31))]}, rfc=["RFC 8725 3.4"])
    file.case("RS256: a key of 1,024 bits", token("rs256-1024", header("rs256-1024")), INVALID, "RFC 8725 section 3.5", jwks={"keys": [public("rs256-1024")]})
    for length in (4, 32):
        made, jwk = symmetric(b"k" * length)
        file.case(f"HS256: a symmetric key of {length} bytes", made, INVALID, "RFC 8725 section 3.5", ["RFC 8725 3.2", "RFC 9068 4: signature"], jwks={"keys": [jwk, *ALL["keys"]]})
    return file


def symmetric(key):
    """A token with a MAC, and the JWK of its key."""
    message = f"{b64(compact({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'o'}))}.{b64(compact(claims()))}"
    mac = hmac.new(key, message.encode(), hashlib.sha256).digest()
    return f"{message}.{b64(mac)}", {"kty": "oct", "kid": "o", "use": "sig", "alg": "HS256", "k": b64(key)}


FILES = (signatures, headers, payloads, forms, times, revocations, demands, key_sets)


def main():
    check = sys.argv[1:] == ["--check"]
    count, stale, refused = 0, [], set()
    for make in FILES:
        file = make()
        names = [case["name"] for case in file.cases]
        assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
        count += len(names)
        refused.update(rule for case in file.cases if case["expect"] != OK for rule in case.get("rfc", ()))
        path = HERE / f"{file.name}.json"
        if check and path.read_text() != file.text():
            stale.append(path.name)
        elif not check:
            path.write_text(file.text())
    lacking = [rule for rule in RULES if rule not in refused]
    assert not lacking, f"no token is refused for {lacking}"
    print(f"{count} cases in {len(FILES)} files")
    if stale:
        sys.exit(f"scripts/vectors would change {', '.join(stale)}")


main()
