// Judges tokens with jose: reads {jwks, algorithm, issuer, audience, token} from standard input, one a
// line, and answers each with {error}, which is null for a good one.

import { createInterface } from "node:readline";
import { createRemoteJWKSet, jwtVerify } from "jose";

const keySets = new Map();

// One for each URL, as a service would have it: it caches, and fetches again by itself.
function keySet(url) {
  if (!keySets.has(url)) {
    const options = { cacheMaxAge: 1000, cooldownDuration: 0 };
    keySets.set(url, createRemoteJWKSet(new URL(url), options));
  }
  return keySets.get(url);
}

async function judge({ jwks, algorithm, issuer, audience, token }) {
  try {
    const options = { algorithms: [algorithm], issuer, audience, typ: "at+jwt" };
    await jwtVerify(token, keySet(jwks), options);
    return null;
  } catch (error) {
    return `${error.code ?? error.name}: ${error.message}`;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ error: await judge(JSON.parse(line)) }));
}
