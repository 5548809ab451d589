// Tests verifier.js and verifier_feed.js: with the published cases, and with the feed of a running server.
//
//     node verifier_check.js ../../../vectors/verifier
//     node verifier_check.js ../../../vectors/verifier http://127.0.0.1:50051 ../../../proto ../../../target/debug/countersign
//
// The program makes a service account and its key, so it must be run where the server's database is found.

import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

import { authClient } from "./validate.js";
import { Refused, Verifier } from "./verifier.js";
import { follow, serviceKeySource, verifierClient } from "./verifier_feed.js";

const PASSWORD = "a mill that weaves algebra";

function judge(verifier, ...rest) {
  try {
    verifier.verify(...rest);
    return "ACCEPT";
  } catch (error) {
    if (error instanceof Refused) return error.reason;
    throw error;
  }
}

function judgeCase(file, one) {
  const known = { ...file, ...one };
  const verifier = new Verifier(known.issuer, known.audiences, known.leeway_seconds);
  verifier.isReady = true;
  verifier.isCurrent = one.keys_are_current ?? true;
  verifier.keysAskedAt = performance.now();
  verifier.setJwks(JSON.stringify(known.jwks));
  for (const revoked of one.revocations ?? []) {
    if (revoked.session_id) verifier.revokeSession(revoked.session_id, revoked.expire_time_ms);
    else verifier.revokeUser(revoked.user_id, revoked.not_before_time_ms, revoked.expire_time_ms);
  }
  const demand = one.demand ?? {};
  const hash = demand.client_certificate_sha256;
  return judge(verifier, one.token, {
    audience: demand.audience,
    requiredRoles: demand.required_roles,
    maxAuthAgeSeconds: demand.max_auth_age_seconds,
    acceptableAcrs: demand.acceptable_acrs,
    clientCertificateSha256: hash && Buffer.from(hash, "hex"),
  }, known.time_ms);
}

function checkCases(folder) {
  const wrong = [];
  let count = 0;
  for (const name of readdirSync(folder).filter((name) => name.endsWith(".json")).sort()) {
    const file = JSON.parse(readFileSync(path.join(folder, name), "utf8"));
    for (const one of file.cases ?? []) {
      count += 1;
      const verdict = judgeCase(file, one);
      if (verdict !== one.expect) wrong.push(`${name}: ${one.name}: ${verdict}, not ${one.expect}`);
    }
  }
  if (wrong.length > 0 || count < 200) throw new Error(wrong.join("\n") || "there are too few cases");
  console.log(`${count} cases`);
}

async function checkFeed(url, protoDir, program) {
  const auth = authClient(url, protoDir);
  const [ada, gateway] = [`${randomUUID()}@example.org`, `node-${randomUUID()}`];
  await auth.register({ email: ada, password: PASSWORD }, 30_000);
  const run = (...given) => execFileSync(program, given, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  run("service-accounts", "create", gateway, "--role", "verifier");
  const key = run("service-keys", "create", gateway, "--expires-in", "1d").trim();
  const verifier = new Verifier("http://localhost:50051", ["countersign"]);
  const client = verifierClient(url, protoDir);
  follow(verifier, client, serviceKeySource(url, protoDir, key));
  const { tokens } = await auth.login({ email: ada, password: PASSWORD }, 30_000);
  await becomes(verifier, tokens.accessToken, "ACCEPT");
  await auth.logout({ refreshToken: tokens.refreshToken });
  const took = await becomes(verifier, tokens.accessToken, "TOKEN_REVOKED");
  console.log(`revoked ${Math.round(took)} ms after the logout`);
}

async function becomes(verifier, token, expected) {
  const began = performance.now();
  while (judge(verifier, token) !== expected) {
    if (performance.now() - began > 30_000) throw new Error(`not in time: ${expected}`);
    await sleep(5);
  }
  return performance.now() - began;
}

const [folder, ...rest] = process.argv.slice(2);
checkCases(folder);
if (rest.length > 0) await checkFeed(...rest);
process.exit(0); // The feed would go on.
