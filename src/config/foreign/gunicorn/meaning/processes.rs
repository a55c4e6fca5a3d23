//! Workers, threads, and the limits of both.

use super::Meaning;
use crate::config::foreign::gunicorn::value::Value;
use crate::config::foreign::{Verdict, bounds};

/// The way in which workers of gunicorn serve.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Model {
    /// One request at a time; `timeout` limits it.
    Sync,
    /// A pool of threads; `timeout` limits no request.
    Threads,
    /// Something that is not here; `timeout` limits no request.
    Other,
}

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    workers(meaning);
    let model = model(meaning);
    threads(meaning, model);
    deadline(meaning, model);
    if let Some((at, value)) = meaning.given("max_requests") {
        match value.number() {
            0 => meaning.already(at, "workers are not replaced by their number of requests"),
            number => meaning.set(at, "max_requests", vec![bounds::number(number)]),
        }
    }
    if let Some((at, _)) = meaning.given("max_requests_jitter") {
        meaning.already(at, "workers are replaced one at a time, without a pause");
    }
    if let Some((at, value)) = meaning.given("graceful_timeout") {
        match value.number() {
            0 => meaning.no_effect(at, "no time"),
            seconds => meaning.time(at, "graceful_timeout", seconds),
        }
    }
}

fn workers(meaning: &mut Meaning<'_>) {
    match meaning.given("workers") {
        Some((at, Value::Int(0))) => {
            meaning.say(at, Verdict::Wrong("no worker would run".to_owned()));
        }
        Some((at, value)) => count(meaning, at, "workers", value.number()),
        None if meaning
            .around
            .environment
            .variable("WEB_CONCURRENCY")
            .is_some() => {}
        None => meaning.imply(
            "workers",
            &["1"],
            "gunicorn runs one worker without `workers`",
        ),
    }
}

/// A number of workers or threads.
fn count(meaning: &mut Meaning<'_>, at: usize, setting: &str, number: i64) {
    match bounds::count(number) {
        Ok(number) => meaning.set(at, setting, vec![number]),
        Err(verdict) => meaning.say(at, verdict),
    }
}

fn model(meaning: &mut Meaning<'_>) -> Model {
    let has_threads = meaning
        .given("threads")
        .is_some_and(|(_, value)| value.number() > 1);
    let usual = if has_threads {
        Model::Threads
    } else {
        Model::Sync
    };
    let Some((at, value)) = meaning.given("worker_class") else {
        return usual;
    };
    let name = match &value {
        Value::Callable(name, _) => name.clone(),
        other => other.text().unwrap_or_default(),
    };
    let (model, verdict) = match &*name {
        "sync" | "gunicorn.workers.sync.SyncWorker" => {
            let text = match has_threads {
                true => "threads: gunicorn takes gthread where there are several",
                false => "one request at a time in each worker",
            };
            (usual, Verdict::Honoured(text.to_owned()))
        }
        "gthread" | "gunicorn.workers.gthread.ThreadWorker" => {
            let text = "threads of each worker".to_owned();
            (Model::Threads, Verdict::Honoured(text))
        }
        name => (Model::Other, Verdict::Unsupported(advice(name))),
    };
    meaning.say(at, verdict);
    model
}

/// True for sync workers, which close each connection behind its response.
pub(super) fn closes_connections(meaning: &Meaning<'_>) -> bool {
    let has_threads = meaning
        .given("threads")
        .is_some_and(|(_, value)| value.number() > 1);
    let class = meaning.given("worker_class");
    let class = class.and_then(|(_, value)| value.text());
    let is_sync = class
        .is_none_or(|name| ["sync", "gunicorn.workers.sync.SyncWorker"].contains(&name.as_str()));
    is_sync && !has_threads
}

fn advice(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let is_greenlet = ["gevent", "eventlet", "meinheld"]
        .iter()
        .any(|part| lower.contains(part));
    let is_asgi = [
        "uvicorn",
        "asgi",
        "hypercorn",
        "daphne",
        "aiohttp",
        "starlette",
        "sanic",
    ]
    .iter()
    .any(|part| lower.contains(part));
    if is_greenlet {
        return "requests run in threads, not in greenlets: set `threads` to the number of requests that a worker \
                handles at a time, and remove the monkey patching"
            .to_owned();
    }
    if is_asgi {
        return "ASGI applications do not run here: start it with its own server, as a [[companion]] perhaps, and \
                forward to that with `upstream`"
            .to_owned();
    }
    match &*lower {
        "tornado" => {
            "applications of Tornado run in Tornado's own server: forward to that with `upstream`"
                .to_owned()
        }
        _ => format!("there is no worker class {name}: workers have processes and threads"),
    }
}

fn threads(meaning: &mut Meaning<'_>, model: Model) {
    match meaning.given("threads") {
        Some((at, value)) => {
            count(meaning, at, "threads", value.number().max(1));
        }
        None if model == Model::Other => {}
        None => meaning.imply(
            "threads",
            &["1"],
            "gunicorn runs one thread without `threads`",
        ),
    }
    if let Some((at, _)) = meaning.given("worker_connections") {
        let why = match model {
            Model::Other => "requests run in threads: `threads` is their number",
            _ => "connections belong to the front: `max_connections` limits them",
        };
        meaning.no_effect(at, why);
    }
}

/// gunicorn, "timeout": "For the non sync workers it just means that the worker process is still
/// communicating and is not tied to the length of time required to handle a single request."
fn deadline(meaning: &mut Meaning<'_>, model: Model) {
    let given = meaning.given("timeout");
    if model == Model::Sync {
        match given {
            Some((at, value)) => meaning.time(at, "request_timeout", value.number()),
            None => meaning.imply(
                "request_timeout",
                &["30"],
                "gunicorn ends a worker after 30 s of one request without `timeout`",
            ),
        }
        return;
    }
    if let Some((at, _)) = given {
        meaning.no_effect(
            at,
            "it limits no request of a worker with threads, it detects workers that hang, which is done in any case: \
             `request_timeout` limits requests",
        );
    }
    let reason = "gunicorn limits no request of a worker with threads";
    meaning.imply("request_timeout", &["0"], reason);
}
