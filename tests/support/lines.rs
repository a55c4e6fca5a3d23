//! Lines that arrive from elsewhere, and waiting for one of them.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::DEADLINE;

/// A growing list of lines, shared with the thread that fills it.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Collects the lines of `reader` in a thread of its own.
    pub fn read_from(reader: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let filled = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n') {
                let Ok(line) = line else { break };
                filled.push(String::from_utf8_lossy(&line).into_owned());
            }
            filled.end();
        });
        lines
    }

    /// No line, ever.
    pub fn none() -> Self {
        let lines = Self::default();
        lines.end();
        lines
    }

    /// Appends one line.
    pub fn push(&self, line: String) {
        self.0.0.lock().unwrap().lines.push(line);
        self.0.1.notify_all();
    }

    /// Says that no line will follow.
    pub fn end(&self) {
        self.0.0.lock().unwrap().ended = true;
        self.0.1.notify_all();
    }

    /// The lines until now.
    pub fn so_far(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// All lines as one text, once the writer has closed its end.
    pub fn to_end(&self) -> String {
        self.wait("the end of the output", |seen| {
            seen.ended.then(|| seen.lines.join("\n"))
        })
    }

    /// Waits for a line that contains `part`; returns the first such line.
    pub fn wait_for(&self, part: &str) -> String {
        self.wait_for_nth(part, 1)
    }

    /// Waits for a line that contains one of `parts`; returns the first such line.
    pub fn wait_for_any(&self, parts: &[&str]) -> String {
        self.wait(&format!("a line with one of {parts:?}"), |seen| {
            let is_meant = |line: &&String| parts.iter().any(|part| line.contains(part));
            seen.lines.iter().find(is_meant).cloned()
        })
    }

    /// Waits until `nth` lines contain `part`; returns the last of them.
    pub fn wait_for_nth(&self, part: &str, nth: usize) -> String {
        self.wait(&format!("line {nth} with {part:?}"), |seen| {
            let mut found = seen.lines.iter().filter(|line| line.contains(part));
            found.nth(nth - 1).cloned()
        })
    }

    /// How many lines until now contain `part`.
    pub fn count(&self, part: &str) -> usize {
        let seen = self.0.0.lock().unwrap();
        seen.lines.iter().filter(|line| line.contains(part)).count()
    }

    fn wait<T>(&self, what: &str, found: impl Fn(&Collected) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = found(&seen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if seen.ended || left.is_zero() {
                let why = if seen.ended { "ended" } else { "timed out" };
                let lines = seen.lines.join("\n");
                drop(seen);
                panic!("waiting for {what}: {why}; until then came:\n{lines}");
            }
            seen = self.0.1.wait_timeout(seen, left).unwrap().0;
        }
    }
}
