// The page: one button for each call, and what came back. Access and refresh tokens stay in a variable: whatever reads the
// page's storage or cookies finds none, and they are gone with the tab.
import { AccountClient, AuthClient, RpcError } from "./grpcweb.js";
import { PasskeyError, createPasskey, usePasskey } from "./passkeys.js";

const of = (id) => document.getElementById(id);
const given = new URLSearchParams(location.search).get("server");
if (given) of("server").value = given;
let tokens = { accessToken: "", refreshToken: "" };

// Tells the server that this browser logged in before. It opens nothing by itself, so it may outlive the tab.
const device = () => localStorage.getItem("deviceToken") ?? "";

/** Keeps what a login returned. */
function keep({ deviceToken, ...answer }) {
  localStorage.setItem("deviceToken", deviceToken);
  return (tokens = answer);
}

const account = () => new AccountClient(of("server").value, tokens.accessToken);

async function login(auth) {
  const answer = await auth.login(of("email").value, of("password").value, device());
  if (!answer.challenge) return answer;
  // The user has a second factor.
  if (!answer.options) throw new PasskeyError("This user has no passkey, and this page does not ask for codes.");
  return auth.completeLogin(answer.challenge, await usePasskey(answer.options));
}

const calls = {
  register: (auth) => auth.register(of("email").value, of("password").value),
  login: async (auth) => keep(await login(auth)),
  registerPasskey: async () => {
    const { options, challenge } = await account().beginPasskeyRegistration();
    return account().finishPasskeyRegistration(challenge, await createPasskey(options), "this browser");
  },
  passkeyLogin: async (auth) => {
    const { options, challenge } = await auth.beginPasskeyLogin();
    return keep(await auth.finishPasskeyLogin(challenge, await usePasskey(options), device()));
  },
  stepUp: async (auth) => {
    const { options, challenge } = await auth.beginPasskeyLogin();
    return (tokens = await account().reauthenticate(challenge, await usePasskey(options)));
  },
  factors: () => account().listFactors(),
  validate: (auth) => auth.validate(tokens.accessToken),
  refresh: async (auth) => (tokens = await auth.refresh(tokens.refreshToken)),
  logout: (auth) => auth.logout(tokens.refreshToken),
};

for (const [name, call] of Object.entries(calls)) {
  of(name).addEventListener("click", async () => {
    show(name, "busy", []);
    try {
      const result = await call(new AuthClient(of("server").value));
      show(name, "done", Object.entries(result));
    } catch (error) {
      if (error instanceof PasskeyError) {
        show(name, "failed", [["browser", error.message]]);
        return;
      }
      if (!(error instanceof RpcError)) throw error;
      show(name, "failed", [
        ["code", error.code],
        ["reason", error.reason],
        ["message", error.message],
        ...error.violations.map(({ field, description }) => [field, description]),
        ...(error.retryAfter === null ? [] : [["retry after", `${error.retryAfter} s`]]),
        ["request id", error.requestId],
      ]);
    }
  });
}

function show(name, state, rows) {
  const result = of("result");
  result.dataset.state = state;
  result.dataset.call = name;
  of("title").textContent = `${name}: ${state}`;
  of("rows").replaceChildren(
    ...rows.map(([label, value]) => {
      const row = document.createElement("tr");
      for (const cell of [label, shorten(String(value))]) {
        row.appendChild(document.createElement("td")).textContent = cell;
      }
      return row;
    }),
  );
}

/** Tokens are not shown in full: somebody may look over the shoulder. */
const shorten = (value) => (/^\S{60,}$/.test(value) ? `${value.slice(0, 24)}…` : value);
