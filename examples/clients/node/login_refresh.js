// Walks a running Countersign through register, login, validate, refresh and logout.
//
//     node login_refresh.js https://auth.example.org:443 ../../../proto
//     node login_refresh.js http://127.0.0.1:50051 ../../../proto    (in development: plain text, on this machine)
//
// Exits with an error at the first answer that is not the expected one.

import { randomUUID } from "node:crypto";
import process from "node:process";

import { authClient, errorReason, requireToken } from "./validate.js";

const [url, protoDir] = process.argv.slice(2);
if (!url || !protoDir) {
  console.error("usage: login_refresh.js https://HOST:PORT PROTO_FOLDER");
  process.exit(64);
}

function check(isTrue, what) {
  if (!isTrue) throw new Error(`wrong answer: ${what}`);
  console.log(`ok  ${what}`);
}

/** Makes a call that must fail, and returns the error. */
async function failureOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("wrong answer: a call that must fail did not");
}

const auth = authClient(url, protoDir);

const email = `node-${randomUUID()}@example.com`;
const password = "plum-otter-canyon-48-velvet";
const { user } = await auth.register({ email, password, displayName: "Node" });
check(user.email === email, "register");

const { tokens } = await auth.login({ email, password, deviceLabel: "example" });
check(tokens.tokenType === "Bearer", "login");

const claims = await auth.validateToken({ accessToken: tokens.accessToken });
check(claims.userId === user.userId, "validate: the user is the one registered");
check(claims.sessionId === tokens.sessionId, "validate: the session is the login's");

const asService = await requireToken(auth, `Bearer ${tokens.accessToken}`);
check(asService.userId === user.userId, "a protected service lets a good token through");
for (const header of [undefined, "Bearer garbage"]) {
  const refused = await failureOf(requireToken(auth, header));
  check(refused.httpStatus === 401, `a protected service refuses: ${refused.message}`);
}

const { tokens: refreshed } = await auth.refresh({ refreshToken: tokens.refreshToken });
check(refreshed.refreshToken !== tokens.refreshToken, "refresh: a new refresh token");
const after = await auth.validateToken({ accessToken: refreshed.accessToken });
check(after.sessionId === tokens.sessionId, "refresh: the session goes on");

const garbage = errorReason(await failureOf(auth.validateToken({ accessToken: "garbage" })));
check(garbage === "TOKEN_INVALID", `a garbage token is refused: ${garbage}`);

await auth.logout({ refreshToken: refreshed.refreshToken });
const late = errorReason(
  await failureOf(auth.validateToken({ accessToken: refreshed.accessToken })),
);
check(late === "TOKEN_REVOKED", `after logout, the access token is refused: ${late}`);

auth.close();
