// What a service adds to judge access tokens by itself. `follow` of verifier_feed.js keeps it up to date.
//
//     const verifier = new Verifier("https://auth.example.org", ["shop"]);
//     follow(verifier, client, getAccessToken);
//     const claims = verifier.verify(token, { requiredRoles: ["reader"] });
//
// docs/verifier-protocol.md says what it must do; the cases of vectors/verifier/ are what it is tested with.

import { createPublicKey, verify as verifySignature } from "node:crypto";

const MAX_TOKEN_LENGTH = 8192;
export const KEY_FETCH_INTERVAL = 10_000; // ms
const KEPT_LONGER = 60_000; // ms
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The token is not accepted. REVOCATION_STATE_STALE means: try again, not: log in again. */
export class Refused extends Error {
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

class Malformed extends Error {}

function demandThat(holds, what) {
  if (!holds) throw new Malformed(what);
}

/** Keys and revocations, and the judgement of tokens by them. */
export class Verifier {
  keys = new Map();
  sessions = new Map();
  users = new Map();
  withdrawn = new Set();
  isReady = false;
  isCurrent = false;
  cursor = "";
  asOf = undefined;
  malformed = 0;
  /** When keys were last asked for; the feed sets `askForKeys`. */
  keysAskedAt = -Infinity;
  askForKeys = () => {};

  constructor(issuer, audiences, leewaySeconds = 0) {
    Object.assign(this, { issuer, audiences, leeway: leewaySeconds * 1000 });
  }

  /** The claims of a good token; throws Refused. It makes no call. */
  verify(token, demand = {}, now = Date.now()) {
    if (!token) throw new Refused("TOKEN_MISSING");
    if (!this.isReady) throw new Refused("REVOCATION_STATE_STALE");
    const claims = this.#verified(token);
    if (claims.iss !== this.issuer || !claims.aud.some((one) => this.audiences.includes(one))) {
      throw new Refused("TOKEN_INVALID");
    }
    if (now >= claims.exp * 1000 + this.leeway) throw new Refused("TOKEN_EXPIRED");
    // Whose revocation concerns the token: the subject, and every service that acts for it.
    for (let named = claims; named; named = named.act) {
      if (this.#isRevoked(named)) throw new Refused("TOKEN_REVOKED");
    }
    checkDemand(demand, claims, now);
    return claims;
  }

  #isRevoked({ sub, sid, jti }) {
    const user = this.users.get(sub.toLowerCase());
    return this.sessions.has(sid?.toLowerCase())
      || (user !== undefined && jti !== undefined && uuid7Millis(jti) <= user.notBefore);
  }

  #verified(token) {
    let key;
    try {
      demandThat(token.length <= MAX_TOKEN_LENGTH, "length");
      const parts = token.split(".");
      demandThat(parts.length === 3, "parts");
      const [head, payload, signature] = parts.map(decode);
      const header = parseObject(head);
      demandThat(header.typ === "at+jwt" && !("crit" in header), "header");
      demandThat([header.alg, header.kid].every((one) => typeof one === "string"), "header");
      key = this.keys.get(header.kid);
      if (key) {
        demandThat(key.names.includes(header.alg), "algorithm");
        const message = Buffer.from(token.slice(0, token.lastIndexOf(".")));
        demandThat(key.check(message, signature), "signature");
        return checkedClaims(parseObject(payload));
      }
    } catch (error) {
      if (error instanceof Malformed) throw new Refused("TOKEN_INVALID");
      throw error;
    }
    throw new Refused(this.#unknownKey());
  }

  #unknownKey() {
    if (performance.now() - this.keysAskedAt < KEY_FETCH_INTERVAL) {
      return this.isCurrent ? "TOKEN_INVALID" : "REVOCATION_STATE_STALE";
    }
    this.askForKeys();
    return "REVOCATION_STATE_STALE";
  }

  /** Replaces the keys; throws and changes nothing when the document cannot be read. */
  setJwks(text) {
    const keys = readJwks(text);
    for (const kid of this.keys.keys()) this.withdrawn.add(kid);
    for (const kid of keys.keys()) this.withdrawn.delete(kid);
    this.keys = keys;
  }

  /** Adds keys of a document that may be older than ours. */
  addJwks(text) {
    for (const [kid, key] of readJwks(text)) {
      if (!this.keys.has(kid) && !this.withdrawn.has(kid)) this.keys.set(kid, key);
    }
  }

  revokeSession(id, expireMillis) {
    this.sessions.set(asUuid(id), expireMillis);
  }

  revokeUser(id, notBefore, expireMillis) {
    const known = this.users.get(asUuid(id)) ?? { notBefore: -Infinity, end: 0 };
    this.users.set(asUuid(id), {
      notBefore: Math.max(known.notBefore, notBefore),
      end: Math.max(known.end, expireMillis),
    });
  }

  forgetExpired(now) {
    const limit = now - this.leeway - KEPT_LONGER;
    for (const [id, end] of this.sessions) if (end <= limit) this.sessions.delete(id);
    for (const [id, { end }] of this.users) if (end <= limit) this.users.delete(id);
  }
}

function checkDemand(demand, claims, now) {
  const { audience, requiredRoles = [], maxAuthAgeSeconds, acceptableAcrs = [] } = demand;
  if (audience !== undefined && !claims.aud.includes(audience)) throw new Refused("TOKEN_INVALID");
  const bound = claims.cnf?.["x5t#S256"];
  if (bound !== undefined && !demand.clientCertificateSha256?.equals(decode(bound))) {
    throw new Refused("TOKEN_INVALID");
  }
  if (!requiredRoles.every((role) => claims.roles.includes(role))) {
    throw new Refused("INSUFFICIENT_ROLE");
  }
  const isRecent = maxAuthAgeSeconds === undefined
    || (claims.auth_time !== undefined && Math.floor(now / 1000) - claims.auth_time <= maxAuthAgeSeconds);
  const isStrong = acceptableAcrs.length === 0 || acceptableAcrs.includes(claims.acr);
  if (!isRecent || !isStrong) throw new Refused("STEP_UP_REQUIRED");
}

const isText = (value) => typeof value === "string";
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const areTexts = (value) => Array.isArray(value) && value.every(isText);

function checkedClaims(claims) {
  const aud = isText(claims.aud) ? [claims.aud] : claims.aud;
  demandThat(["iss", "sub", "jti", "sid", "client_id"].every((name) => isText(claims[name])), "texts");
  demandThat(["exp", "iat"].every((name) => Number.isSafeInteger(claims[name])), "times");
  demandThat(areTexts(aud) && areTexts(claims.roles), "lists");
  demandThat(!("auth_time" in claims) || Number.isSafeInteger(claims.auth_time), "auth_time");
  demandThat(!("acr" in claims) || isText(claims.acr), "acr");
  demandThat(!("amr" in claims) || areTexts(claims.amr), "amr");
  for (let at = claims; "act" in at; at = at.act) {
    demandThat(isObject(at.act) && isText(at.act.sub), "act");
    for (const name of ["sid", "jti"]) if (name in at.act) asUuid(at.act[name]);
  }
  demandThat(!("principal_type" in claims) || claims.principal_type === "service", "principal_type");
  if ("cnf" in claims) {
    demandThat(isObject(claims.cnf) && Object.keys(claims.cnf).join() === "x5t#S256", "cnf");
    const hash = claims.cnf["x5t#S256"];
    demandThat(isText(hash) && decode(hash).length === 32, "cnf");
  }
  return { ...claims, aud, sub: asUuid(claims.sub), sid: asUuid(claims.sid), jti: asUuid(claims.jti) };
}

function asUuid(text) {
  demandThat(isText(text) && UUID.test(text), "not a UUID in its hyphenated form");
  return text.toLowerCase();
}

function uuid7Millis(id) {
  return id[14] === "7" ? Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : 0;
}

/** base64url without padding and without stray bits. */
function decode(part) {
  const bytes = Buffer.from(part, "base64url");
  demandThat(bytes.toString("base64url") === part, "base64url");
  return bytes;
}

function parseObject(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    const value = JSON.parse(text);
    demandThat(isObject(value), "not an object");
    refuseDoubles(text);
    return value;
  } catch (error) {
    throw new Malformed("JSON", { cause: error });
  }
}

/** JSON.parse takes the last of two members of one name. `text` is JSON. */
function refuseDoubles(text) {
  const open = [];
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g);
  tokens.forEach((token, i) => {
    if (token === "{" || token === "[") open.push(new Set());
    else if (token === "}" || token === "]") open.pop();
    else if (token !== ":" && tokens[i + 1] === ":") {
      const name = JSON.parse(token);
      demandThat(!open.at(-1).has(name), "a member stands twice");
      open.at(-1).add(name);
    }
  });
}

function readJwks(text) {
  const named = new Map();
  const { keys } = parseObject(Buffer.from(text));
  demandThat(Array.isArray(keys) && keys.every(isObject), "keys");
  for (const jwk of keys) {
    try {
      const key = publicKey(jwk);
      demandThat((jwk.use ?? "sig") === "sig" && isText(jwk.kid), "use");
      demandThat(key.names.includes(jwk.alg ?? key.names[0]), "alg");
      named.set(jwk.kid, key);
    } catch {
      // Of a kind that is not verified here.
    }
  }
  return named;
}

/** The names of the key's algorithm, and what checks a signature. */
function publicKey({ kty, crv, x, y, n, e }) {
  const key = createPublicKey({ key: { kty, crv, x, y, n, e }, format: "jwk" });
  const check = (hash, options, length) => (message, signature) =>
    (length === undefined || signature.length === length)
      && verifySignature(hash, message, { key, ...options }, signature);
  if (kty === "EC" && crv === "P-256") {
    demandThat(decode(x).length === 32 && decode(y).length === 32, "coordinates");
    return { names: ["ES256"], check: check("sha256", { dsaEncoding: "ieee-p1363" }, 64) };
  }
  if (kty === "OKP" && crv === "Ed25519") {
    return { names: ["EdDSA", "Ed25519"], check: check(null, {}, 64) };
  }
  const bits = key.asymmetricKeyDetails.modulusLength;
  demandThat(kty === "RSA" && bits >= 2048 && bits <= 8192, "not a key for us");
  return { names: ["RS256"], check: check("sha256", {}) };
}
