// Where Countersign is, and how to reach it: https:// with TLS, http:// in plain text.

import grpc from "@grpc/grpc-js";

/**
 * The address and the credentials for `https://HOST:PORT`. `http://` encrypts nothing: it is for development, on one machine.
 * A certificate of a private authority: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names the authority's PEM file.
 */
export function target(url) {
  const [, scheme, address] = /^(\w+):\/\/(.+)$/.exec(url) ?? [];
  if (scheme === "https") return [address, grpc.credentials.createSsl()];
  if (scheme === "http") return [address, grpc.credentials.createInsecure()];
  throw new Error(`neither https:// nor http://: ${url}`);
}
