// The hello example's script: a clock, and three requests to the application.
"use strict";

const at = (id) => document.getElementById(id);

function tick() {
  at("clock").textContent = new Date().toLocaleTimeString("en-GB");
}

async function ask() {
  // Without the pause one worker would be idle again before the next request arrives.
  const one = () => fetch("/api?pause_ms=100").then((answer) => answer.json());
  const answers = await Promise.all(Array.from({ length: 12 }, one));
  const processes = new Set(answers.map(({ pid }) => pid)).size;
  at("answered").textContent = `Answered by ${processes} ${processes === 1 ? "process" : "processes"}.`;
  const dots = answers.map(({ pid }) => {
    const dot = document.createElement("span");
    dot.textContent = pid;
    dot.style.background = `hsl(${(pid * 137) % 360} 45% 42%)`;
    return dot;
  });
  at("dots").replaceChildren(...dots);
}

async function stream() {
  at("pieces").textContent = "";
  const answer = await fetch("/stream?pieces=3&pause_ms=250");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    at("pieces").textContent += piece.value;
  }
}

async function echo(event) {
  event.preventDefault();
  const text = new FormData(event.target).get("text");
  const answer = await fetch("/echo", { method: "POST", body: text });
  at("answer").textContent = await answer.text();
}

// Shows that the server cannot be reached; the next click tries again.
function guarded(talk, place) {
  return (event) => talk(event).catch((error) => { at(place).textContent = String(error); });
}

setInterval(tick, 1000);
tick();
at("ask").addEventListener("click", guarded(ask, "dots"));
at("stream").addEventListener("click", guarded(stream, "pieces"));
at("echo").addEventListener("submit", guarded(echo, "answer"));
guarded(ask, "dots")();
guarded(stream, "pieces")();
