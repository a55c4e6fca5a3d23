//! Stacks of Python threads as text for people.

use std::fmt::Write;
use std::time::Duration;

use super::Asked;
use crate::front::upstream::workers::stacks::{ThreadStack, WorkerStacks};
use crate::supervisor::starting::Starting;

/// Stacks of the threads of all workers of these applications. Each worker has `patience` to
/// acquire the interpreter; the applications are asked in turn. Templates and workers that still
/// import the application are included.
pub(super) async fn of(applications: &[Asked], patience: Duration) -> String {
    let mut text = String::new();
    for Asked {
        name,
        pool,
        starting,
    } in applications
    {
        for process in starting {
            let stacks = process.stacks().await;
            // Writing to a String cannot fail.
            let _ = push_starting(&mut text, name, process, &stacks);
        }
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

fn push_starting(
    text: &mut String,
    application: &str,
    process: &Starting,
    stacks: &str,
) -> std::fmt::Result {
    let (generation, pid) = (process.generation + 1, process.pid);
    write!(text, "{application}, generation {generation}, ")?;
    match process.worker {
        Some(worker) => writeln!(text, "worker {worker} (pid {pid}), not ready yet")?,
        None => writeln!(text, "template (pid {pid}), imports the application")?,
    }
    match (&process.pipe, stacks) {
        (None, _) if !process.has_begun => writeln!(text, "  the interpreter is still starting"),
        (_, "") => writeln!(text, "  does not answer"),
        (_, stacks) => stacks.lines().try_for_each(|line| match line {
            "" => Ok(()),
            line => writeln!(text, "  {line}"),
        }),
    }
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
        Err(error) => writeln!(text, "  no stacks: {error}"),
    }
}

fn push_thread(text: &mut String, thread: &ThreadStack) -> std::fmt::Result {
    match &*thread.name {
        "" => write!(text, "  all threads; one of them holds the interpreter")?,
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
