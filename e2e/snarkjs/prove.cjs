// Proves the same job once for every line on standard input and answers each with a line: snarkjs without the cost of
// starting node, for benchmarks. Usage: node prove.cjs KEY.zkey WITNESS.wtns
const readline = require("node:readline");
const snarkjs = require("snarkjs");

const [key, witness] = process.argv.slice(2);
(async () => {
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await snarkjs.groth16.prove(key, witness);
    console.log("proved");
  }
  process.exit(0); // its threads would keep the process alive
})();
