// Follows the feed of keys and revocations, as docs/verifier-protocol.md says.

import { setTimeout as sleep } from "node:timers/promises";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

import { target } from "./connect.js";
import { KEY_FETCH_INTERVAL, Verifier } from "./verifier.js";

const SILENCE = 4_000; // ms
const SNAPSHOT_PATIENCE = 30_000; // ms

/** The server does not let this service watch. It is no outage: somebody must do something. */
export class WrongCredential extends Error {}

function load(file, protoDir) {
  const options = { includeDirs: [protoDir], longs: Number, oneofs: true };
  const definition = protoLoader.loadSync(`countersign/auth/v1/${file}`, options);
  return grpc.loadPackageDefinition(definition).countersign.auth.v1;
}

/** A client of VerifierService. */
export function verifierClient(url, protoDir, [address, credentials] = target(url)) {
  const { VerifierService } = load("verifier_service.proto", protoDir);
  return new VerifierService(address, credentials);
}

/** What gets a new access token for a service key with each call. */
export function serviceKeySource(url, protoDir, serviceKey, [address, credentials] = target(url)) {
  const { TokenService } = load("token_service.proto", protoDir);
  const client = new TokenService(address, credentials);
  return () => new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + 5_000 };
    client.issueToken({ serviceKey }, options, (error, response) => (error ? reject(error) : resolve(response.accessToken)));
  });
}

/** Follows the feed for ever: resumes after every break, and rejects with WrongCredential when the server says no twice. */
export async function follow(verifier, client, getAccessToken) {
  let delay = 200;
  let refusals = 0;
  verifier.askForKeys = () => fetchKeys(verifier, client);
  for (;;) {
    try {
      await watch(verifier, client, await getAccessToken());
    } catch (error) {
      if (error.code === grpc.status.INVALID_ARGUMENT) verifier.cursor = "";
      const isRefusal = [grpc.status.UNAUTHENTICATED, grpc.status.PERMISSION_DENIED].includes(error.code);
      // An access token that has just expired is renewed.
      refusals = isRefusal && !verifier.isCurrent ? refusals + 1 : Number(isRefusal);
      if (refusals > 1) throw new WrongCredential(error.details, { cause: error });
    }
    delay = verifier.isCurrent ? 200 : Math.min(delay * 2, 5_000);
    verifier.isCurrent = false;
    await sleep(delay * (1 + Math.random()));
  }
}

function fetchKeys(verifier, client) {
  if (verifier.isAskingForKeys) return;
  verifier.isAskingForKeys = true;
  client.getJwks({}, { deadline: Date.now() + 2_000 }, (error, response) => {
    if (!error) tolerate(verifier, () => verifier.addJwks(response.jwksJson));
    verifier.keysAskedAt = performance.now();
    setTimeout(() => { verifier.isAskingForKeys = false; }, KEY_FETCH_INTERVAL).unref();
  });
}

/** Applies one stream, until it ends. */
async function watch(verifier, client, token) {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  const stream = client.watchRevocations({ cursor: verifier.cursor }, metadata);
  let begun = verifier.cursor;
  let snapshot = new Verifier("", []);
  let isComplete = false;
  const replaceAll = () => {
    verifier.sessions = snapshot.sessions;
    verifier.users = snapshot.users;
  };
  let silence = setTimeout(() => stream.cancel(), SNAPSHOT_PATIENCE);
  try {
    for await (const message of stream) {
      clearTimeout(silence);
      if (message.event === "jwks") {
        tolerate(verifier, () => verifier.setJwks(message.jwks.jwksJson));
      } else if (message.event === "revocations") {
        const targets = isComplete || begun ? [verifier, snapshot] : [snapshot];
        for (const one of message.revocations.revocations) {
          for (const target of targets) tolerate(verifier, () => learn(target, one));
        }
      } else if (message.event === "snapshotComplete") {
        if (verifier.keys.size === 0) return stream.cancel();
        if (!begun) replaceAll();
        isComplete = verifier.isCurrent = verifier.isReady = true;
      } else if (message.event === "heartbeat" && isComplete) {
        begun = "";
        snapshot = new Verifier("", []);
        verifier.cursor = message.heartbeat.cursor;
        verifier.asOf = message.heartbeat.revocationAsOf;
        verifier.forgetExpired(Date.now());
      }
      silence = setTimeout(() => stream.cancel(), isComplete ? SILENCE : SNAPSHOT_PATIENCE);
    }
  } finally {
    clearTimeout(silence);
  }
}

const millis = ({ seconds, nanos }) => seconds * 1000 + Math.floor((nanos ?? 0) / 1e6);

function learn(target, one) {
  const end = millis(one.expireTime);
  if (one.subject === "sessionId") target.revokeSession(one.sessionId, end);
  else if (one.subject === "userId") target.revokeUser(one.userId, millis(one.notBeforeTime), end);
  else throw new TypeError("a subject that is not known");
}

/** What is malformed is left out and counted. */
function tolerate(verifier, apply) {
  try {
    apply();
  } catch {
    verifier.malformed += 1;
  }
}
