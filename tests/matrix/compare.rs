//! What differs between what the rules ask for and what came.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::exchange::{After, Outcome, Received};
use super::listeners::Listener;
use super::rules::{Connection, Expected, Field, Ruled, Want};

/// Something that is not as a rule has it.
#[derive(Debug)]
pub struct Mismatch {
    /// What of the cell: `status`, `framing`, `connection`, `body`, `log`, a field's name, …
    pub aspect: &'static str,
    expected: String,
    got: String,
    source: &'static str,
}

impl Mismatch {
    fn new<T: fmt::Debug>(aspect: &'static str, expected: &Ruled<T>, got: impl fmt::Debug) -> Self {
        let short = |text: String| match text.char_indices().nth(160) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        };
        Self {
            aspect,
            expected: short(format!("{:?}", expected.value)),
            got: short(format!("{got:?}")),
            source: expected.source,
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            aspect,
            expected,
            got,
            source,
        } = self;
        write!(out, "{aspect}: expected {expected}, got {got} [{source}]")
    }
}

/// Where there was a response of another status, nothing else is compared: it all follows.
pub fn response(expected: &Expected, received: &Result<Received, String>) -> Vec<Mismatch> {
    let received = match received {
        Ok(received) => received,
        Err(why) => return vec![Mismatch::new("answer", &expected.outcome, why)],
    };
    let is_as_wanted = match (&expected.outcome.value, &received.outcome) {
        (Want::Status(wanted), Outcome::Response(status)) => wanted == status,
        // RFC 9113 §7: PROTOCOL_ERROR is 1.
        (Want::Malformed, Outcome::Response(400) | Outcome::StreamError(1)) => true,
        (Want::Nothing, Outcome::Nothing) => true,
        _ => false,
    };
    if !is_as_wanted {
        return vec![Mismatch::new(
            "status",
            &expected.outcome,
            &received.outcome,
        )];
    }
    let mut wrong = Vec::from_iter(connection(expected, received));
    if let Want::Status(_) = expected.outcome.value {
        wrong.extend(head_and_body(expected, received));
    }
    wrong
}

fn head_and_body(expected: &Expected, received: &Received) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    if let Some(interim) = &expected.interim.value
        && *interim != received.interim
    {
        wrong.push(Mismatch::new(
            "interim",
            &expected.interim,
            &received.interim,
        ));
    }
    if received.framing != Some(expected.framing.value) {
        wrong.push(Mismatch::new(
            "framing",
            &expected.framing,
            received.framing,
        ));
    }
    if let Some(body) = &expected.body.value
        && *body != received.body
    {
        let shown = received.body.escape_ascii().to_string();
        wrong.push(Mismatch::new(
            "body",
            &expected.body,
            (received.body.len(), shown),
        ));
    }
    for (name, field) in &expected.fields {
        let got = received.field(name);
        let is_right = match &field.value {
            Field::Is(value) => got == Some(value),
            Field::Contains(part) => got.is_some_and(|got| got.to_lowercase().contains(part)),
            Field::Present => got.is_some(),
            Field::Absent => got.is_none(),
            Field::AbsentOr(value) => got.is_none_or(|got| got == value),
            Field::Any => true,
        };
        if !is_right {
            wrong.push(Mismatch::new(name, field, got));
        }
    }
    wrong
}

fn connection(expected: &Expected, received: &Received) -> Option<Mismatch> {
    let is_right = matches!(
        (expected.connection.value, &received.connection),
        (Connection::Keeps | Connection::Either, After::Kept)
            | (Connection::Closes | Connection::Either, After::Closed)
            | (Connection::Switches, After::Switched)
            | (Connection::Left, After::Left)
    );
    (!is_right).then(|| Mismatch::new("connection", &expected.connection, &received.connection))
}

/// The lines of an access log, by the number of the cell in the target.
pub fn log_lines(lines: &[String]) -> BTreeMap<usize, Vec<Value>> {
    let mut found = BTreeMap::<usize, Vec<Value>>::new();
    for line in lines {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let target = line["target"].as_str().unwrap_or_default();
        let number = target
            .split_once("?cell=")
            .map(|(_, number)| number.parse());
        if let Some(Ok(number)) = number {
            found.entry(number).or_default().push(line);
        }
    }
    found
}

/// Compares the lines of one cell: exactly one is due.
pub fn log(
    listener: Listener,
    method: &str,
    expected: &Expected,
    received: Option<&Received>,
    lines: &[Value],
) -> Vec<Mismatch> {
    // Malformed requests of one address are logged up to a limit, and then counted.
    if lines.is_empty() && expected.log_status.value == [400] {
        return Vec::new();
    }
    let [line] = lines else {
        return vec![Mismatch::new(
            "log",
            &expected.log_status,
            ("lines", lines.len()),
        )];
    };
    let mut wrong = Vec::new();
    let status = line["status"].as_u64().unwrap_or_default();
    let sent = match received.map(|received| &received.outcome) {
        Some(Outcome::Response(status)) => vec![*status],
        _ => expected.log_status.value.clone(),
    };
    if !sent.iter().any(|sent| u64::from(*sent) == status) {
        wrong.push(Mismatch::new(
            "log",
            &expected.log_status,
            ("status", status),
        ));
    }
    if line["method"] != method || line["protocol"] != expected.log.value.protocol {
        let got = (&line["method"], &line["protocol"]);
        wrong.push(Mismatch::new("log", &expected.log, got));
    }
    if line["remote_addr"].as_str() != listener.client() {
        wrong.push(Mismatch::new("log", &expected.log, &line["remote_addr"]));
    }
    if let Some(received) = received
        && matches!(received.outcome, Outcome::Response(status) if status != 101)
        && line["bytes"] != received.body.len()
    {
        let got = ("bytes", &line["bytes"], "received", received.body.len());
        wrong.push(Mismatch::new("log", &expected.log, got));
    }
    wrong
}
