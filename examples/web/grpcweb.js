// gRPC-Web from a page, without a library: the calls that a login page makes, and errors with their details.
// The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md

const CODES = [
  "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
  "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
];
const FACTOR_KINDS = ["", "authenticator app", "passkey"];

/** A call that failed. Decide by `code` and `reason`, never by `message`. */
export class RpcError extends Error {
  constructor(code, message, details) {
    super(message);
    Object.assign(this, { code, reason: "", requestId: "", violations: [], retryAfter: null }, details);
  }
}

/** Calls the methods of one service at `server`, such as `https://localhost:50051`, with a bearer token if there is one. */
class Client {
  constructor(server, service, bearer = "") {
    this.url = `${server.replace(/\/$/, "")}/countersign.auth.v1.${service}`;
    this.bearer = bearer;
  }

  async call(method, ...fields) {
    const body = concat(fields);
    let response;
    try {
      response = await fetch(`${this.url}/${method}`, {
        method: "POST",
        headers: {
          "content-type": "application/grpc-web+proto",
          "x-grpc-web": "1",
          ...(this.bearer && { authorization: `Bearer ${this.bearer}` }),
        },
        body: concat([frameHead(body.length), body]),
      });
    } catch {
      // Not reached, or the server does not allow the origin of this page: a browser does not tell which.
      throw new RpcError("UNAVAILABLE", "The server cannot be reached from this page.");
    }
    const { data, trailers } = frames(new Uint8Array(await response.arrayBuffer()));
    // A call that fails at once has its status in the headers. A page sees them only where CORS exposes them.
    const header = (name) => trailers.get(name) ?? response.headers.get(name);
    const status = header("grpc-status");
    if (status === "0" && data) return decode(data);
    throw error(status, header);
  }
}

/** Calls AuthService, which needs no access token. */
export class AuthClient extends Client {
  constructor(server) {
    super(server, "AuthService");
  }

  async register(email, password) {
    const response = await this.call("Register", text(1, email), text(2, password));
    return user(message(response, 1));
  }

  /** The tokens, or for a user who has a second factor the challenge that it must answer. */
  async login(email, password, deviceToken) {
    const fields = [text(1, email), text(2, password), text(3, "the page"), text(5, deviceToken)];
    const response = await this.call("Login", ...fields);
    const challenge = message(response, 3);
    if (string(challenge, 1) === "") return { ...tokens(message(response, 1)), deviceToken: string(response, 4) };
    const options = string(challenge, 3);
    return { challenge: string(challenge, 1), options: options && JSON.parse(options) };
  }

  async validate(accessToken) {
    const response = await this.call("ValidateToken", text(1, accessToken));
    return {
      userId: string(response, 1),
      sessionId: string(response, 2),
      roles: strings(response, 4),
      audiences: strings(response, 5),
      expires: time(response, 7),
      issuer: string(response, 8),
      authenticated: time(response, 10),
      amr: strings(response, 11).join(" "),
      acr: string(response, 12),
    };
  }

  async refresh(refreshToken) {
    return tokens(message(await this.call("Refresh", text(1, refreshToken)), 1));
  }

  async logout(refreshToken) {
    await this.call("Logout", text(1, refreshToken));
    return {};
  }

  /** A challenge that any passkey of this service may answer, and the options for the browser. */
  async beginPasskeyLogin() {
    const response = await this.call("BeginPasskeyLogin");
    return { challenge: string(response, 1), options: JSON.parse(string(response, 2)) };
  }

  async finishPasskeyLogin(challenge, credential, deviceToken) {
    const fields = [text(1, challenge), text(2, JSON.stringify(credential)), text(3, "the page"), text(5, deviceToken)];
    const response = await this.call("FinishPasskeyLogin", ...fields);
    return { ...tokens(message(response, 1)), deviceToken: string(response, 3) };
  }

  /** The second step of a login whose answer was a challenge. */
  async completeLogin(challenge, credential) {
    const response = await this.call("CompleteLogin", text(1, challenge), text(4, JSON.stringify(credential)));
    return { ...tokens(message(response, 1)), deviceToken: string(response, 3) };
  }
}

/** Calls AccountService in the name of the user whose access token it is. */
export class AccountClient extends Client {
  constructor(server, accessToken) {
    super(server, "AccountService", accessToken);
  }

  async beginPasskeyRegistration() {
    const response = await this.call("BeginPasskeyRegistration");
    return { options: JSON.parse(string(response, 1)), challenge: string(response, 2) };
  }

  async finishPasskeyRegistration(challenge, credential, label) {
    const fields = [text(1, challenge), text(2, JSON.stringify(credential)), text(3, label)];
    const response = await this.call("FinishPasskeyRegistration", ...fields);
    const factor = message(response, 1);
    return { factorId: string(factor, 1), label: string(factor, 3), recoveryCodes: strings(response, 2).join(" ") };
  }

  /** The second factors: by id what each is. */
  async listFactors() {
    const factors = messages(await this.call("ListFactors"), 1);
    const describe = (factor) => {
      const used = factor.has(5) ? `last used ${time(factor, 5)}` : "not used yet";
      return [FACTOR_KINDS[number(factor, 2)], string(factor, 3), `added ${time(factor, 4)}`, used].filter(Boolean).join(", ");
    };
    return Object.fromEntries(factors.map((factor) => [string(factor, 1), describe(factor)]));
  }

  /** Proves again who the user is, by a passkey that answers a challenge of AuthClient.beginPasskeyLogin. */
  async reauthenticate(challenge, credential) {
    const fields = [text(3, JSON.stringify(credential)), text(4, challenge)];
    return tokens(message(await this.call("Reauthenticate", ...fields), 1));
  }
}

function error(status, header) {
  const code = CODES[Number(status ?? 2)] ?? "UNKNOWN";
  const failed = { requestId: header("x-request-id") ?? "" };
  const bytes = header("grpc-status-details-bin");
  for (const any of bytes ? messages(decode(base64(bytes)), 3) : []) {
    const detail = message(any, 2);
    switch (string(any, 1).split("/").pop()) {
      case "google.rpc.ErrorInfo":
        failed.reason = string(detail, 1);
        break;
      case "google.rpc.RequestInfo":
        failed.requestId = string(detail, 1);
        break;
      case "google.rpc.RetryInfo":
        failed.retryAfter = number(message(detail, 1), 1);
        break;
      case "google.rpc.BadRequest":
        failed.violations = messages(detail, 1).map((v) => ({ field: string(v, 1), description: string(v, 2) }));
    }
  }
  return new RpcError(code, decodeURIComponent(header("grpc-message") ?? ""), failed);
}

const tokens = (m) => ({
  accessToken: string(m, 1),
  refreshToken: string(m, 2),
  accessExpires: time(m, 4),
  sessionId: string(m, 6),
});
const user = (m) => ({ userId: string(m, 1), email: string(m, 2) });

// --- frames: a flag, four bytes of length, and a message or, in the last one, the trailers ---

function frameHead(length) {
  const head = new Uint8Array(5);
  new DataView(head.buffer).setUint32(1, length);
  return head;
}

function frames(bytes) {
  let data = null;
  const trailers = new Map();
  for (let at = 0; at + 5 <= bytes.length; ) {
    const length = new DataView(bytes.buffer, at + 1).getUint32(0);
    const frame = bytes.subarray(at + 5, at + 5 + length);
    if ((bytes[at] & 0x80) === 0) {
      data = frame;
    } else {
      for (const line of new TextDecoder().decode(frame).split("\r\n")) {
        const colon = line.indexOf(":");
        if (colon > 0) trailers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
      }
    }
    at += 5 + length;
  }
  return { data, trailers };
}

// --- the wire format of protobuf: https://protobuf.dev/programming-guides/encoding/ ---

function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

function text(field, value) {
  const bytes = new TextEncoder().encode(value);
  return concat([Uint8Array.from([...varint(field * 8 + 2), ...varint(bytes.length)]), bytes]);
}

/** The fields of a message: by number, the values in their order. */
function decode(bytes) {
  const fields = new Map();
  let at = 0;
  const next = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      if (byte === undefined) throw new RangeError("the message ends in the middle of a number");
    }
  };
  while (at < bytes.length) {
    const key = next();
    const [field, type] = [Math.floor(key / 8), key % 8];
    let value;
    if (type === 0) value = next();
    else if (type === 2) {
      const length = next();
      value = bytes.subarray(at, (at += length));
    } else at += type === 1 ? 8 : 4;
    fields.set(field, [...(fields.get(field) ?? []), value]);
  }
  return fields;
}

const last = (m, field) => m.get(field)?.at(-1);
const messages = (m, field) => (m.get(field) ?? []).map(decode);
const message = (m, field) => decode(last(m, field) ?? new Uint8Array());
const strings = (m, field) => (m.get(field) ?? []).map((bytes) => new TextDecoder().decode(bytes));
const string = (m, field) => strings(m, field).at(-1) ?? "";
const number = (m, field) => last(m, field) ?? 0;
const time = (m, field) => new Date(number(message(m, field), 1) * 1000).toISOString();
const base64 = (value) => Uint8Array.from(atob(value), (letter) => letter.charCodeAt(0));

function concat(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}
