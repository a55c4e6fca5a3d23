// Node's fetch: what it makes of the same few answers as clients.py, as JSON.

const url = process.argv[2];
const piece = Buffer.from("any bytes\0\r\n\xff", "latin1");
const body = Buffer.concat(Array(1000).fill(piece));

async function* pieces() {
  for (let at = 0; at < body.length; at += 1000) yield body.subarray(at, at + 1000);
}

const answers = [];
async function ask(path, options) {
  const answer = await fetch(url + path, options);
  answers.push([answer.status, Buffer.from(await answer.arrayBuffer()).toString("latin1")]);
}

await ask("/app/page");
await ask("/app/streamed");
await ask("/app/page", { method: "HEAD" });
await ask("/static/large.bin");
await ask("/static/large.bin", { headers: { Range: "bytes=2-5" } });
await ask("/static/style.css");
await ask("/app/page", { method: "POST", body });
await ask("/app/page", { method: "POST", body: pieces(), duplex: "half" });
await ask("/app/nocontent");
await ask("/static/small.bin");
console.log(JSON.stringify(answers));
