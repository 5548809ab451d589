// Passkeys in a page: the server's JSON goes to the browser, and the browser's answer to the server, without a library.

/** The browser or its user refused: there is no passkey, or the dialogue was closed. */
export class PasskeyError extends Error {}

/** Makes a passkey by the options of BeginPasskeyRegistration. */
export const createPasskey = (options) =>
  ask(() => navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) }));

/** Answers a challenge by the options of BeginPasskeyLogin, or of a login's challenge. */
export const usePasskey = (options) =>
  ask(() => navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) }));

async function ask(dialogue) {
  if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) {
    throw new PasskeyError("This browser has no passkeys: it needs https or localhost, and PublicKeyCredential.parseCreationOptionsFromJSON.");
  }
  try {
    return await dialogue();
  } catch (error) {
    // A DOMException: it tells neither whether there is a passkey nor what the user did, on purpose.
    throw new PasskeyError(`${error.name}: ${error.message}`);
  }
}
