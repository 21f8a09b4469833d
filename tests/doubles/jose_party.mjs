// A relying party with npm's jose. It reads one question a line from standard input and answers each with a line.
//
// Arguments: the folder in whose node_modules jose is, the issuer's URL, and the options of createRemoteJWKSet as JSON.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, issuer, options] = process.argv.slice(2);
const { createRemoteJWKSet, jwtVerify } = createRequire(`${folder}/`)("jose");

const found = await fetch(`${issuer}/.well-known/openid-configuration`);
const { jwks_uri: url, id_token_signing_alg_values_supported: algorithms } = await found.json();
const keys = createRemoteJWKSet(new URL(url), JSON.parse(options));
const requiredClaims = ["iss", "sub", "aud", "exp", "iat", "jti"];

for await (const line of createInterface({ input: process.stdin })) {
  const { token, audience, now } = JSON.parse(line);
  const currentDate = new Date(1000 * now);
  const demands = { issuer, audience, algorithms, requiredClaims, currentDate, clockTolerance: 5, maxTokenAge: "1h" };
  let answer;
  try {
    answer = { claims: (await jwtVerify(token, keys, demands)).payload };
  } catch (e) {
    answer = { error: `${e.code ?? e.name}: ${e.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
