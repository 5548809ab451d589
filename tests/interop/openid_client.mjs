// openid-client against our token endpoint: a service key by form and by Basic, an assertion, introspection, and a wrong key.
// Prints each answer of the token endpoint on a line of its own.
import assert from "node:assert";
import * as client from "openid-client";

const { BASE, ISSUER, CLIENT, KEY, AUDIENCE, PRIVATE_KEY } = process.env;
const metadata = await fetch(`${BASE}/.well-known/oauth-authorization-server`).then((answer) => answer.json());
assert.equal(metadata.issuer, ISSUER);
assert.equal(metadata.token_endpoint, `${ISSUER}/oauth2/token`);
// What the metadata say, at the address where the server of this test is.
const server = {
  ...metadata,
  token_endpoint: `${BASE}/oauth2/token`,
  introspection_endpoint: `${BASE}/oauth2/introspect`,
};

function configuration(authentication) {
  const made = new client.Configuration(server, CLIENT, undefined, authentication);
  client.allowInsecureRequests(made);
  return made;
}

const { d, ...rest } = JSON.parse(PRIVATE_KEY);
const key = await crypto.subtle.importKey(
  "jwk",
  { ...rest, d },
  { name: "ECDSA", namedCurve: "P-256" },
  false,
  ["sign"],
);
const ways = [
  client.ClientSecretPost(KEY),
  client.ClientSecretBasic(KEY),
  client.PrivateKeyJwt({ key, kid: rest.kid }),
];
for (const way of ways) {
  const config = configuration(way);
  for (const parameters of [{ audience: AUDIENCE }, { resource: AUDIENCE }, { scope: "" }]) {
    const answer = await client.clientCredentialsGrant(config, parameters);
    // The library writes `token_type` in lower case.
    assert.equal(answer.token_type, "bearer");
    console.log(JSON.stringify({ ...answer, token_type: "Bearer" }));
    const said = await client.tokenIntrospection(config, answer.access_token);
    assert.equal(said.active, true);
  }
}

const refused = await client.clientCredentialsGrant(configuration(client.ClientSecretPost("csk_wrong"))).catch((error) => error);
assert.equal(refused.error, "invalid_client");
assert.equal(refused.status, 401);
const challenged = await client.clientCredentialsGrant(configuration(client.ClientSecretBasic("csk_wrong"))).catch((error) => error);
assert.equal(challenged.code, "OAUTH_WWW_AUTHENTICATE_CHALLENGE");
