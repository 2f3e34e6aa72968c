// node_work.js -- what node_test runs on both sides; prints digests.
'use strict';
const crypto = require('crypto');
const zlib = require('zlib');
const {Worker, isMainThread, parentPort, workerData} =
    require('worker_threads');

const WORKERS = 3;
const ROUNDS = 12;

function digest(data) {
  return crypto.createHash('sha256').update(data).digest('hex').slice(0, 16);
}

function next(state) {
  return (Math.imul(state, 1664525) + 1013904223) >>> 0;
}

// Documents, maps, buffers and compressed streams that depend on the seed.
function churn(seed) {
  let state = seed;
  const rows = new Map();
  const buffers = [];
  const total = crypto.createHash('sha256');
  for (let i = 0; i < 6000; i++) {
    state = next(state);
    rows.set('k' + (state >>> 18), {id: i, text: 'ab'.repeat(state % 60)});
    const buffer = Buffer.alloc(1 + state % 20000, state & 255);
    if (buffers.length < 300) {
      buffers.push(buffer);
    } else {
      total.update(buffers[state % 300]);
      buffers[state % 300] = buffer;
    }
  }
  const text = JSON.stringify([...rows]);
  const back = new Map(JSON.parse(text));
  total.update(String(back.size));
  total.update(zlib.gunzipSync(zlib.gzipSync(text)));
  total.update(zlib.brotliCompressSync(text.slice(0, 200000),
      {params: {[zlib.constants.BROTLI_PARAM_QUALITY]: 4}}));
  return total.digest('hex');
}

// Each worker is a thread with a heap of its own that comes and goes.
function inWorker(seed) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(__filename, {workerData: seed});
    worker.on('message', (bytes) => resolve(Buffer.from(bytes).toString()));
    worker.on('error', reject);
  });
}

async function main() {
  for (let round = 0; round < ROUNDS; round++) {
    const seeds = [...Array(WORKERS).keys()].map((i) => round * 10 + i);
    const answers = await Promise.all(seeds.map(inWorker));
    console.log(round, digest(answers.join()), digest(churn(round)));
  }
  let grown = Buffer.alloc(0);
  for (let i = 0; i < 150; i++) {
    grown = Buffer.concat([grown, Buffer.alloc(i * 997, i)]);
  }
  console.log('grown', grown.length, digest(grown));
}

if (isMainThread) {
  main();
} else {
  // The buffer's memory moves to the main thread, which frees it.
  const bytes = new TextEncoder().encode(churn(workerData));
  parentPort.postMessage(bytes, [bytes.buffer]);
}
