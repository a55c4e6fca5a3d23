//! Stacks of Python threads as text for people.

use std::fmt::Write;
use std::time::Duration;

use crate::front::upstream::workers::Pool;
use crate::front::upstream::workers::stacks::{ThreadStack, WorkerStacks};

/// Where the threads of all workers of these applications are. Each worker may take
/// `patience` to get hold of its interpreter; the applications are asked one by one.
pub(super) async fn of(applications: &[(String, Pool)], patience: Duration) -> String {
    let mut text = String::new();
    for (name, pool) in applications {
        let mut workers = pool.stacks(patience).await;
        workers.sort_by_key(|worker| (worker.generation, worker.number));
        for worker in &workers {
            // Writing to a String cannot fail.
            let _ = push(&mut text, name, worker);
        }
    }
    if text.is_empty() {
        text.push_str("no worker is ready");
    }
    text
}

fn push(text: &mut String, application: &str, worker: &WorkerStacks) -> std::fmt::Result {
    let (number, pid) = (worker.number, worker.pid);
    let generation = worker.generation + 1;
    writeln!(
        text,
        "{application}, generation {generation}, worker {number} (pid {pid})"
    )?;
    match &worker.threads {
        Ok(threads) => threads
            .iter()
            .try_for_each(|thread| push_thread(text, thread)),
        Err(error) => writeln!(text, "  does not tell: {error}"),
    }
}

fn push_thread(text: &mut String, thread: &ThreadStack) -> std::fmt::Result {
    match &*thread.name {
        "" => write!(
            text,
            "  all threads, while one keeps the interpreter to itself"
        )?,
        name => write!(text, "  thread {name}")?,
    }
    if let Some(request) = &thread.request {
        let path = request.target.without_query();
        write!(text, ", {} {path} [{}]", request.method, request.request_id)?;
    }
    text.push_str(":\n");
    for line in thread.text.lines() {
        writeln!(text, "    {line}")?;
    }
    Ok(())
}
