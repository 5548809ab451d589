// better-auth with e-mail and password, Argon2id by its native module, a SQLite file, one worker process for each core.
//
//     node server.js DATABASE_FILE PORT WORKERS
//
// Prints "ready" when every worker listens.

import cluster from "node:cluster";
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";

import { Algorithm, hash, verify } from "@node-rs/argon2";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";

const [file, port, workers] = process.argv.slice(2);

// The same cost as Countersign's default.
const cost = {
  algorithm: Algorithm.Argon2id,
  memoryCost: 19456,
  timeCost: 2,
  parallelism: 1,
  outputLen: 32,
};

const database = new DatabaseSync(file);
// As Countersign: write-ahead log, commits forced to disk. The workers wait for each other.
database.exec("PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");

const options = {
  baseURL: `http://127.0.0.1:${port}`,
  secret: "only for measurements, 32 bytes or more",
  database,
  emailAndPassword: {
    enabled: true,
    autoSignIn: false,
    password: {
      hash: (password) => hash(password, cost),
      verify: (data) => verify(data.hash, data.password),
    },
  },
  rateLimit: { enabled: false },
  logger: { level: "error" },
  telemetry: { enabled: false },
};

if (cluster.isPrimary) {
  const { runMigrations } = await getMigrations(options);
  await runMigrations();
  let listening = 0;
  cluster.on("listening", () => {
    listening += 1;
    if (listening === Number(workers)) {
      console.log("ready");
    }
  });
  // A worker that ends spoils the measurement: end all.
  cluster.on("exit", () => process.exit(1));
  process.on("SIGTERM", () => process.exit(0));
  for (let number = 0; number < Number(workers); number += 1) {
    cluster.fork();
  }
} else {
  const handler = toNodeHandler(betterAuth(options));
  const server = createServer((request, response) => {
    // Tells the driver which worker a connection has reached.
    if (request.url === "/worker") {
      response.end(String(process.pid));
      return;
    }
    handler(request, response);
  });
  server.keepAliveTimeout = 600_000;
  server.listen(Number(port), "127.0.0.1");
}
