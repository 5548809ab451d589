// gRPC-Web from a page, without a library: the calls that a login page makes, and errors with their details.
// The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md

const CODES = [
  "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
  "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
];

/** A call that failed. Decide by `code` and `reason`, never by `message`. */
export class RpcError extends Error {
  constructor(code, message, details) {
    super(message);
    Object.assign(this, { code, reason: "", requestId: "", violations: [], retryAfter: null }, details);
  }
}

/** Calls the methods of AuthService at `server`, such as `https://localhost:50051`. */
export class AuthClient {
  constructor(server) {
    this.server = server.replace(/\/$/, "");
  }

  async register(email, password) {
    const response = await this.call("Register", text(1, email), text(2, password));
    return user(message(response, 1));
  }

  async login(email, password) {
    const response = await this.call("Login", text(1, email), text(2, password), text(3, "the page"));
    return tokens(message(response, 1));
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

  async call(method, ...fields) {
    const body = concat(fields);
    let response;
    try {
      response = await fetch(`${this.server}/countersign.auth.v1.AuthService/${method}`, {
        method: "POST",
        headers: { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" },
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
