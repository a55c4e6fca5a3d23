//! Destination and format of diagnostics.
//!
//! Each event is given to [`super::diagnostics`] as a whole, so lines never interleave. Pretty is
//! for people: time, level, message, fields; its form may change. JSON is for machines: one object
//! per line. Spans are not printed; an event carries its own fields.

use std::error::Error;
use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::diagnostics::Events;
use super::timestamp::Timestamp;

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `17:54:06 WARN  worker killed worker=3 signal=9`.
    Pretty,
    /// An object with `timestamp` (RFC 3339, UTC), `level`, `message` and the fields.
    Json,
}

/// Sends all events of `level` and above to standard error, from now on. `terminal` says
/// whether that is one, and colours are wanted.
///
/// `level` is `off`, `error`, `warn`, `info`, `debug` or `trace`, or a filter directive as
/// `tracing_subscriber` reads it. `debug` is about pyserve: its libraries stay at `info`.
///
/// # Errors
/// A sentence: the level cannot be read, or this was done before.
pub fn init(format: LogFormat, level: &str, terminal: bool) -> Result<(), String> {
    subscriber(format, filter(level)?, terminal, Events)
        .try_init()
        .map_err(|error| format!("cannot start logging: {error}"))
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    terminal: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Its own report of a failed write would be an `eprintln!`, which panics.
        .log_internal_errors(false)
        .with_writer(writer);
    match format {
        LogFormat::Pretty => Box::new(builder.with_ansi(terminal).event_format(Pretty).finish()),
        LogFormat::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_target(false)
                .with_timer(Clock)
                .finish(),
        ),
    }
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    // A lone word that is no level would be taken for the name of a module, and silence
    // everything else.
    let is_directive = level.contains(['=', ',']);
    let directives = match level.to_ascii_lowercase().as_str() {
        // h2 warns of each connection that it ends, without the peer; `front::http2` says so once
        // in a while, with it.
        "debug" => "info,pyserve=debug,h2=error",
        "info" => "info,h2=error",
        "warn" => "warn,h2=error",
        "off" | "error" | "trace" => level,
        _ if is_directive => level,
        _ => {
            return Err(format!(
                "cannot use log level {level:?}: it is off, error, warn, info, debug, trace \
                 or a filter such as info,pyserve=debug"
            ));
        }
    };
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(directives)
        .map_err(|error| format!("cannot use log level {level:?}: {error}"))
}

/// The timestamps of the JSON form.
struct Clock;

impl tracing_subscriber::fmt::time::FormatTime for Clock {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        out.write_str(&Timestamp::from(SystemTime::now()).rfc_3339())
    }
}

/// The form for people.
struct Pretty;

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let colours = match out.has_ansi_escapes() {
            true => Colours::of(*event.metadata().level()),
            false => Colours::NONE,
        };
        let Colours { level, dim, reset } = colours;
        let mut parts = Parts {
            colours,
            message: String::new(),
            fields: String::new(),
            code: String::new(),
        };
        event.record(&mut parts);
        // The rest of a traceback follows the fields, indented, so that no text can begin
        // a line of its own that looks like an event.
        let mut lines = parts.message.lines();
        writeln!(
            out,
            "{dim}{}{reset} {level}{:<5}{reset} {}{}{}",
            Timestamp::from(SystemTime::now()).clock(),
            event.metadata().level().as_str(),
            lines.next().unwrap_or_default(),
            parts.fields,
            parts.code,
        )?;
        lines.try_for_each(|line| writeln!(out, "    {line}"))
    }
}

/// An event's message and its other fields, already escaped.
struct Parts {
    colours: Colours,
    message: String,
    fields: String,
    /// ` [PS-301]`, or nothing: at the end, where a person looks for it.
    code: String,
}

impl Parts {
    fn push(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            escape(&mut self.message, value, true);
            return;
        }
        if field.name() == "code" {
            let _ = write!(self.code, " [");
            escape(&mut self.code, value, false);
            self.code.push(']');
            return;
        }
        let Colours { dim, reset, .. } = self.colours;
        // Writing to a string cannot go wrong.
        let _ = write!(self.fields, " {dim}{}={reset}", field.name());
        escape(&mut self.fields, value, false);
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = !value.is_empty() && !value.contains([' ', '"', '=']);
        match is_plain || field.name() == "message" {
            true => self.push(field, value),
            false => self.push(field, &format!("{value:?}")),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut chain = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        self.push(field, &chain);
    }
}

/// Logged text may come from a request: it must not steer the terminal or end its line.
fn escape(out: &mut String, text: &str, keep_lines: bool) {
    for char in text.trim_end_matches('\n').chars() {
        match char {
            '\n' if keep_lines => out.push(char),
            '\t' => out.push(char),
            _ if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
                out.extend(char.escape_default());
            }
            _ => out.push(char),
        }
    }
}

#[derive(Clone, Copy)]
struct Colours {
    level: &'static str,
    dim: &'static str,
    reset: &'static str,
}

impl Colours {
    const NONE: Self = Self {
        level: "",
        dim: "",
        reset: "",
    };

    fn of(level: Level) -> Self {
        Self {
            level: match level {
                Level::ERROR => "\x1b[31m",
                Level::WARN => "\x1b[33m",
                Level::INFO => "\x1b[32m",
                Level::DEBUG => "\x1b[34m",
                Level::TRACE => "\x1b[35m",
            },
            dim: "\x1b[2m",
            reset: "\x1b[0m",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use std::io;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn capture(format: LogFormat, terminal: bool, level: &str, events: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let filter = filter(level).unwrap();
        let subscriber = subscriber(format, filter, terminal, move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(captured.0.lock().clone()).unwrap()
    }

    #[test]
    fn pretty_lines_carry_message_and_fields() {
        let text = capture(LogFormat::Pretty, false, "info", || {
            tracing::warn!(worker = 3, path = "/a b", host = "x", "worker killed");
            tracing::debug!("hidden");
        });
        let (time, rest) = text.split_at(8);
        assert!(
            time.chars().filter(|char| *char == ':').count() == 2,
            "{time}"
        );
        assert_eq!(rest, " WARN  worker killed worker=3 path=\"/a b\" host=x\n");
    }

    #[test]
    fn a_code_is_at_the_end_for_people_and_a_field_for_machines() {
        let events = || {
            tracing::warn!(code = "PS-301", worker = 3, "worker died");
            tracing::warn!(code = None::<&str>, worker = 4, "worker died");
        };
        let text = capture(LogFormat::Pretty, false, "info", events);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].ends_with("worker died worker=3 [PS-301]"),
            "{text}"
        );
        assert!(lines[1].ends_with("worker died worker=4"), "{text}");
        let json = capture(LogFormat::Json, false, "info", events);
        let line: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(line["code"], "PS-301");
        assert_eq!(line["message"], "worker died");
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("disk on fire"));
        let text = capture(LogFormat::Pretty, false, "info", || {
            tracing::error!(error = &error as &dyn Error, "stopped");
        });
        assert!(
            text.ends_with("ERROR stopped error=cannot read: disk on fire\n"),
            "{text}"
        );
    }

    #[test]
    fn the_rest_of_a_traceback_is_indented_behind_the_fields() {
        let text = capture(LogFormat::Pretty, false, "info", || {
            tracing::error!(worker = 1, "{}", "Traceback:\n  File\x1b[2J\nValueError\n");
        });
        let expected = "ERROR Traceback: worker=1\n      File\\u{1b}[2J\n    ValueError\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let warn = || tracing::warn!(worker = 3, "killed");
        let coloured = capture(LogFormat::Pretty, true, "info", warn);
        assert!(coloured.contains("\x1b[33mWARN \x1b[0m killed \x1b[2mworker=\x1b[0m3"));
        assert!(!capture(LogFormat::Pretty, false, "info", warn).contains('\x1b'));
        assert!(!capture(LogFormat::Json, true, "info", warn).contains('\x1b'));
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let text = capture(LogFormat::Json, false, "info", || {
            tracing::info!(worker = 3, path = "/\n", "ready");
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "ready");
        assert_eq!(line["worker"], 3);
        assert_eq!(line["path"], "/\n");
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(timestamp.ends_with('Z') && timestamp.as_bytes()[10] == b'T');
        assert_eq!(line.as_object().unwrap().len(), 5);
    }

    #[test]
    fn levels_and_directives_are_understood_and_misspelt_ones_refused() {
        let events = || {
            tracing::debug!(target: "pyserve::front", "ours");
            tracing::debug!(target: "h2", "theirs");
            tracing::info!(target: "app", "of the application");
        };
        let count = |level| {
            capture(LogFormat::Pretty, false, level, events)
                .lines()
                .count()
        };
        assert_eq!(count("debug"), 2);
        assert_eq!(count("DEBUG"), 2);
        assert_eq!(count("trace"), 3);
        assert_eq!(count("info"), 1);
        assert_eq!(count("warn"), 0);
        assert_eq!(count("off"), 0);
        assert_eq!(count("warn,h2=debug"), 1);
        assert_eq!(count("h2=debug"), 1);
        for level in ["inof", "", "info debug", "pyserve=loud", "a=b=c"] {
            assert!(filter(level).unwrap_err().contains("log level"), "{level}");
        }
    }

    proptest! {
        #[test]
        fn no_text_forges_a_line_or_steers_the_terminal(text in any::<String>()) {
            let pretty = capture(LogFormat::Pretty, false, "info", || {
                tracing::info!(text = text.as_str(), debug = ?text, display = %text, "{}", text);
            });
            prop_assert!(pretty.lines().skip(1).all(|line| line.starts_with("    ")));
            prop_assert!(!pretty.contains(|char: char| char.is_control() && !"\n\t".contains(char)));
            let json = capture(LogFormat::Json, false, "info", || {
                tracing::info!(text = text.as_str(), "{}", text);
            });
            prop_assert_eq!(json.matches('\n').count(), 1);
            let line: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(line["text"].as_str().unwrap(), &text);
        }
    }
}
