//! Evaluates a file in the interpreter of the application, in a process of its own.
//!
//! The process is given a limited time, its output a limited size, and nothing but the JSON that it
//! writes is believed. What it started ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value as Json;

use super::settings;
use super::value::Value;
use crate::config::native;
use crate::os::{child, identity};

/// The outcome of a file.
#[derive(Debug, Clone, Default)]
pub struct Evaluated {
    /// The file, relative to the current directory perhaps.
    pub file: String,
    /// Settings of gunicorn that it has.
    pub settings: BTreeMap<String, Value>,
    /// Its statements, in order.
    pub statements: Vec<Statement>,
    /// Every name that is read somewhere in it.
    pub used: BTreeSet<String>,
    /// The exception that ended it, with its line.
    pub error: Option<(usize, String)>,
    /// Its output.
    pub printed: String,
    /// The interpreter that evaluated it.
    pub python: PathBuf,
}

/// A statement of the file; of one with a body, the part before that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statement {
    /// Its first line, from 1.
    pub line: usize,
    /// Its last line.
    pub end: usize,
    /// Its kind, `Assign`, as Python's `ast` calls it.
    pub kind: String,
    /// The names that it sets.
    pub names: Vec<String>,
    /// Its number in the order in which statements ran; 0 if it did not.
    pub ran: u64,
}

/// The user of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// The interpreter, the user and the directory of an evaluation.
#[derive(Debug, Clone)]
pub struct Evaluator {
    /// The user as whom root evaluates. `None`: the owner of the file, of the directory or of the
    /// interpreter, the first of them that is not root. So root runs no code of another user.
    pub user: Option<User>,
    /// The interpreter.
    pub python: PathBuf,
    /// The current directory, from which the file imports.
    pub directory: PathBuf,
}

/// Longest time: enough for a file that imports a large application from a slow disk.
const LONGEST: Duration = Duration::from_secs(20);
/// Most bytes of the result.
const MOST_RESULT: usize = 4 << 20;
/// Most bytes that are kept of what a file prints.
const MOST_PRINTED: usize = 16 << 10;

impl Evaluator {
    /// Evaluates the file that `location` names as `gunicorn -c` has it: a path, `file:PATH` or
    /// `python:MODULE`.
    ///
    /// # Errors
    /// The reason, if there is no outcome.
    pub fn evaluate(&self, location: &str) -> Result<Evaluated, String> {
        let mut command = Command::new(&self.python);
        command
            .args(["-c", include_str!("evaluate.py")])
            .arg(native::string(location))
            .args(settings::all().map(|setting| setting.name))
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        if rustix::process::geteuid().is_root()
            && let Some(user) = self.user.clone().or_else(|| self.owner(location))
        {
            identity::run_as(&mut command, user.uid, user.gid, &user.groups);
        }
        let output = run(&mut command, LONGEST)
            .map_err(|error| format!("cannot run {}: {error}", self.python.display()))?;
        let printed = String::from_utf8_lossy(&output.printed).into_owned();
        if output.is_late {
            let seconds = LONGEST.as_secs();
            return Err(format!("its evaluation took longer than {seconds} s"));
        }
        let json: Option<Json> = serde_json::from_slice(&output.result).ok();
        let evaluated = json.as_ref().and_then(of_json);
        evaluated
            .map(|evaluated| Evaluated {
                printed: printed.clone(),
                python: self.python.clone(),
                ..evaluated
            })
            .ok_or_else(|| {
                let last = printed.trim().lines().last().unwrap_or("no output");
                format!("its evaluation has no result ({last})")
            })
    }
}

impl Evaluator {
    /// The first owner other than root of what an evaluation executes.
    #[allow(
        clippy::disallowed_methods,
        reason = "called at the start and by verbs"
    )]
    fn owner(&self, location: &str) -> Option<User> {
        let file = native::path(location.strip_prefix("file:").unwrap_or(location));
        let environment = self.python.parent().and_then(Path::parent);
        let places = [
            Some(&*self.directory.join(file)),
            Some(&*self.directory),
            Some(&*self.python),
            environment,
        ];
        let owners = places.into_iter().flatten().filter_map(|path| {
            let meta = std::fs::symlink_metadata(path).ok()?;
            Some((meta.uid(), meta.gid()))
        });
        owners
            .into_iter()
            .find(|(uid, _)| *uid != 0)
            .map(|(uid, gid)| {
                let name = identity::user(&uid.to_string()).map(|user| user.name);
                User {
                    uid,
                    gid,
                    groups: identity::groups(name.as_deref(), gid),
                }
            })
    }
}

fn of_json(json: &Json) -> Option<Evaluated> {
    let number = |json: &Json| {
        json.as_u64()
            .and_then(|number| usize::try_from(number).ok())
    };
    let texts = |json: &Json| -> Vec<String> {
        let items = json.as_array().into_iter().flatten();
        items
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    };
    let settings = json.get("settings")?.as_object()?.iter();
    let statements = json.get("statements")?.as_array()?.iter().map(|statement| {
        Some(Statement {
            line: number(statement.get("line")?)?,
            end: number(statement.get("end")?)?,
            kind: statement.get("kind")?.as_str()?.to_owned(),
            names: texts(statement.get("names")?),
            ran: statement.get("ran")?.as_u64()?,
        })
    });
    let error = json.get("error")?;
    Some(Evaluated {
        file: json.get("file")?.as_str()?.to_owned(),
        settings: settings
            .filter_map(|(name, value)| Some((name.clone(), Value::of_json(value)?)))
            .collect(),
        statements: statements.collect::<Option<_>>()?,
        used: texts(json.get("used")?).into_iter().collect(),
        error: error.get("line").and_then(number).map(|line| {
            let text = error.get("text").and_then(Json::as_str);
            (line, text.unwrap_or_default().to_owned())
        }),
        printed: String::new(),
        python: PathBuf::new(),
    })
}

/// The output of a process.
struct Output {
    result: Vec<u8>,
    printed: Vec<u8>,
    is_late: bool,
}

/// Runs `command` until its standard output ends, and kills what is left of it.
fn run(command: &mut Command, longest: Duration) -> io::Result<Output> {
    let (result, result_end) = io::pipe()?;
    let (printed, printed_end) = io::pipe()?;
    command.stdout(result_end).stderr(printed_end);
    child::end_with_us(command, rustix::process::Signal::TERM);
    let started = child::spawn(command, &[]);
    // Our ends of the pipes, without which their end would not be seen.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let pid = started?;
    let collected = collect(result, printed, Instant::now() + longest);
    child::kill_group(pid);
    child::reap_killed(pid);
    collected
}

fn collect(
    mut result: io::PipeReader,
    mut printed: io::PipeReader,
    deadline: Instant,
) -> io::Result<Output> {
    let mut output = Output {
        result: Vec::new(),
        printed: Vec::new(),
        is_late: false,
    };
    let mut has_printed_all = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            output.is_late = true;
            return Ok(output);
        }
        let (is_result, is_printed) =
            readable(result.as_fd(), printed.as_fd(), has_printed_all, left)?;
        if is_printed {
            has_printed_all = take(&mut printed, &mut output.printed, MOST_PRINTED)?;
        }
        // What was printed before is in the pipe already, and is taken first.
        if is_result && !is_printed && take(&mut result, &mut output.result, MOST_RESULT)? {
            return Ok(output);
        }
    }
}

/// The pipes that have something to read, or have ended.
fn readable(
    result: BorrowedFd<'_>,
    printed: BorrowedFd<'_>,
    has_printed_all: bool,
    left: Duration,
) -> io::Result<(bool, bool)> {
    let wanted = match has_printed_all {
        true => PollFlags::empty(),
        false => PollFlags::IN,
    };
    let mut watched = vec![PollFd::from_borrowed_fd(result, PollFlags::IN)];
    if !has_printed_all {
        watched.push(PollFd::from_borrowed_fd(printed, wanted));
    }
    let limit = Timespec::try_from(left).ok();
    match poll(&mut watched, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let is_ready = |at: usize| {
        let events = watched.get(at).map(PollFd::revents);
        events.is_some_and(|events| !events.is_empty())
    };
    Ok((is_ready(0), is_ready(1)))
}

/// Reads once, and keeps what fits; true at the end.
fn take(pipe: &mut io::PipeReader, kept: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    let length = match pipe.read(&mut buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
        Err(error) => return Err(error),
    };
    let room = most.saturating_sub(kept.len()).min(length);
    kept.extend_from_slice(&buffer[..room]);
    Ok(length == 0)
}

/// The path of the file, for its lines.
pub fn path_of(evaluated: &Evaluated, directory: &Path) -> PathBuf {
    directory.join(native::path(&evaluated.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_shell(line: &str, longest: Duration) -> Output {
        run(Command::new("/bin/sh").args(["-c", line]), longest).unwrap()
    }

    #[test]
    fn a_process_is_bounded_in_time_and_output() {
        let began = Instant::now();
        let output = of_shell("echo begun >&2; sleep 60", Duration::from_millis(300));
        assert!(output.is_late && began.elapsed() < Duration::from_secs(30));
        assert_eq!(output.printed, b"begun\n");
        // It prints without end, and a child of it keeps standard error open.
        let line = "yes >&2 & echo '{}'; exec >/dev/null; sleep 0.2";
        let output = of_shell(line, Duration::from_secs(60));
        assert!(!output.is_late);
        assert_eq!(output.result, b"{}\n");
        assert!(output.printed.len() <= MOST_PRINTED);
    }

    proptest::proptest! {
        #[test]
        fn any_result_is_read_without_a_panic(
            text in "(\\PC){0,60}|\\{\"file\": ?\"x\", ?\"settings\": ?\\{(\"[a-z]{0,4}\": ?(null|1|\\[(\"(int|list|map|text|class)\"(, ?(\\[\\]|\"-?9{0,40}\"|1|null)){0,2})?\\]),?){0,1}\\}, ?\"statements\": ?\\[(\\{\"line\": ?-?[0-9]{1,20}\\})?\\], ?\"used\": ?(\\[\\]|1), ?\"error\": ?(null|\\{\"line\": ?[0-9]{1,22}\\})\\}",
        ) {
            if let Ok(json) = serde_json::from_str(&text) {
                let _read = of_json(&json);
            }
        }
    }

    #[test]
    fn a_result_that_is_none_is_an_error() {
        for program in ["/bin/true", "/bin/echo", "/no/such/python"] {
            let evaluator = Evaluator {
                user: None,
                python: program.into(),
                directory: "/".into(),
            };
            assert!(evaluator.evaluate("x.py").is_err(), "{program}");
        }
    }
}
