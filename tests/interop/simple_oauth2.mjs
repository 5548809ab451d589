// simple-oauth2 against our token endpoint. Prints each answer of the token endpoint on a line of its own.
import assert from "node:assert";
import { ClientCredentials } from "simple-oauth2";

const { BASE, CLIENT, KEY, AUDIENCE } = process.env;

function client(secret, authorizationMethod) {
  return new ClientCredentials({
    client: { id: CLIENT, secret },
    auth: { tokenHost: BASE, tokenPath: "/oauth2/token" },
    options: { authorizationMethod },
  });
}

for (const method of ["header", "body"]) {
  for (const parameters of [{ audience: AUDIENCE }, { scope: [] }, { scope: ["verifier", "reader"] }]) {
    const { token } = await client(KEY, method).getToken(parameters);
    console.log(JSON.stringify(token));
  }
  const refused = await client("csk_wrong", method).getToken({}).catch((error) => error);
  assert.equal(refused.output.statusCode, 401);
  assert.equal(refused.data.payload.error, "invalid_client");
}

const granted = await client(KEY, "header").getToken({});
const renewal = await granted.refresh().catch((error) => error);
assert.equal(renewal.data.payload.error, "unsupported_grant_type");
