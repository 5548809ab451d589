// What a microservice adds to be protected by Countersign: a validator with a deadline, and the
// stable reason of a failure. No generated code: the protos are read when the program starts.

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

import { target } from "./connect.js";

const ERROR_DOMAIN = "auth.countersign.v1";

// The part of google/rpc/status.proto and error_details.proto that is needed here.
const rpc = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
`, { keepCase: true }).root;
const Status = rpc.lookupType("google.rpc.Status");
const ErrorInfo = rpc.lookupType("google.rpc.ErrorInfo");

/**
 * The stable reason of a failure, such as TOKEN_EXPIRED; empty when Countersign gave none.
 * Decide by this, or by `error.code`; never by the message.
 */
export function errorReason(error) {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!bytes) return "";
  for (const detail of Status.decode(bytes).details) {
    if (!detail.type_url.endsWith("/google.rpc.ErrorInfo")) continue;
    const info = ErrorInfo.decode(detail.value);
    if (info.domain === ERROR_DOMAIN) return info.reason;
  }
  return "";
}

/** A client of AuthService at an `https://` URL, whose methods return promises and always have a deadline. */
export function authClient(url, protoDir, [address, credentials] = target(url)) {
  const definition = protoLoader.loadSync("countersign/auth/v1/auth_service.proto", {
    includeDirs: [protoDir],
    defaults: true,
    longs: String,
  });
  const { AuthService } = grpc.loadPackageDefinition(definition).countersign.auth.v1;
  // One client per process is enough: calls share its connection.
  const client = new AuthService(address, credentials);
  const call = (method) => (request, deadlineMillis = 10_000) =>
    new Promise((resolve, reject) => {
      // Without a deadline, a caller would wait for as long as the network likes.
      const deadline = Date.now() + deadlineMillis;
      client[method](request, { deadline }, (error, response) =>
        error ? reject(error) : resolve(response));
    });
  return {
    register: call("register"),
    login: call("login"),
    refresh: call("refresh"),
    validateToken: call("validateToken"),
    logout: call("logout"),
    close: () => client.close(),
  };
}

/**
 * For a request handler: returns the claims of the token in an `Authorization` header, or throws
 * an error with the HTTP status to answer with.
 */
export async function requireToken(auth, authorization, requiredRoles = []) {
  const [scheme, accessToken] = (authorization ?? "").split(" ");
  if (scheme.toLowerCase() !== "bearer" || !accessToken) {
    throw Object.assign(new Error("TOKEN_MISSING"), { httpStatus: 401 });
  }
  try {
    return await auth.validateToken({ accessToken, requiredRoles }, 500);
  } catch (error) {
    // No answer is not a "no": with 503 the client tries again, and does not log in again.
    const httpStatus = new Map([
      [grpc.status.UNAUTHENTICATED, 401],
      [grpc.status.PERMISSION_DENIED, 403],
    ]).get(error.code) ?? 503;
    throw Object.assign(new Error(errorReason(error)), { httpStatus, cause: error });
  }
}
