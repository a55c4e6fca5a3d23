//! Messages between supervisor and template.
//!
//! One SEQPACKET message each, encoded by postcard: both ends are of one build, so the encoding needs
//! no names and no versions. Descriptors that belong to a message travel beside it, in the order
//! named at the variant.

mod native;

use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::{Malformed, malformed};

/// Longest control message in bytes; tracebacks are cut to fit.
pub const MAX_MESSAGE: usize = 60_000;

/// Signal at which a process that imports the application writes its Python stacks to the pipe that
/// came with [`ToTemplate::Boot`]: `SIGRTMAX - 2` of glibc and musl. It is harmless from
/// [`FromTemplate::Started`] on, and in a worker from [`Activity::Starting`](crate::scoreboard::Activity)
/// with its process id on.
pub const STACKS_SIGNAL: i32 = 62;

/// From the supervisor to the template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTemplate {
    /// The first message. Descriptors: receiving end of the socket beside the request queue,
    /// memory of the request queue, memory of the scoreboard, sending end of the log, writing end
    /// of the pipe for stacks; with [`Boot::uwsgi`] the door of its service.
    Boot(Box<Boot>),
    /// Fork worker number `worker` (from 0). Descriptors: one channel for each thread, then
    /// the socket for orders ([`crate::orders`]), the memory for replies ([`crate::reply_ring`]),
    /// and the eventfd that wakes the front.
    Fork {
        /// Number of the worker; its threads have the scoreboard lines
        /// `worker * threads ..`.
        worker: u32,
    },
}

/// From the template to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromTemplate {
    /// The interpreter runs our host. The first message.
    Started(Interpreter),
    /// The template will not import the application itself (preload off).
    Clean,
    /// The application is imported.
    Imported(Loaded),
    /// The application is imported but forking it would not be safe, for these reasons.
    /// What the import started has ended, and the process ends too; then the supervisor starts
    /// another template without preloading. From a worker that was to become the template: it
    /// does not, and exits.
    UnsafeToFork(Vec<String>),
    /// A worker has become a template ([`crate::orders::ToWorker::Promote`]).
    Promoted,
    /// The application cannot be imported.
    ImportFailed {
        /// The traceback that Python printed, or a sentence of the host.
        #[serde(serialize_with = "cut")]
        traceback: String,
    },
    /// A worker was forked.
    Forked {
        /// Number of the worker.
        worker: u32,
        /// Its process id.
        pid: u32,
    },
    /// A worker could not be forked.
    ForkFailed {
        /// Number of the worker.
        worker: u32,
        /// The error.
        #[serde(serialize_with = "cut")]
        why: String,
    },
    /// A worker ended.
    Exited {
        /// Number of the worker.
        worker: u32,
        /// Its process id.
        pid: u32,
        /// The raw wait status.
        status: i32,
    },
}

/// All that a template needs before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Boot {
    /// The module to import: a dotted name, or a path ending in a file if `app_is_file`.
    #[serde(with = "native")]
    pub app: PathBuf,
    /// True if `app` is a path.
    pub app_is_file: bool,
    /// Attribute to call; empty: `application`, then `app`.
    pub callable: String,
    /// True if the attribute is a factory to be called.
    pub factory: bool,
    /// The arguments of the factory as Python has them, literals between commas.
    pub arguments: String,
    /// True if a factory with a usual name is acceptable where there is no application, because the
    /// setting names no attribute.
    pub find_factory: bool,
    /// Directory that becomes current and first on `sys.path`.
    #[serde(with = "native")]
    pub chdir: PathBuf,
    /// Further directories for `sys.path`, in this order, behind `chdir`.
    #[serde(with = "native::list")]
    pub pythonpath: Vec<PathBuf>,
    /// Modules, and files of modules, to import before the application.
    pub imports: Vec<String>,
    /// The words of `sys.argv`; empty: `app` alone.
    #[serde(with = "native::list")]
    pub argv: Vec<PathBuf>,
    /// Threads in each worker.
    pub threads: u32,
    /// Worker processes that serve at a time; for `wsgi.multiprocess` and information.
    pub workers: u32,
    /// Import before the first fork.
    pub preload: Preload,
    /// Report tracebacks to the front (`--dev`).
    pub dev: bool,
    /// Process group of the supervisor if a person may debug on its terminal, else 0.
    pub terminal_group: u32,
    /// A worker may become the template later.
    pub refork: bool,
    /// The process is no template but the worker of the one [`ToTemplate::Fork`] that follows.
    pub apart: bool,
    /// Descriptors that pyserve had when it started and passes on.
    pub inherited: Vec<u32>,
    /// The value of `SCRIPT_NAME` in requests; mostly empty.
    pub mount: String,
    /// Ask the application for its static files.
    pub find_static: bool,
    /// Ask the application for its uploaded files.
    pub find_media: bool,
    /// The file of gunicorn whose hooks workers run, or `python:MODULE`; mostly empty.
    #[serde(with = "native")]
    pub gunicorn_hooks: PathBuf,
    /// Name of the application in the titles of its processes.
    pub name: String,
    /// Version of pyserve.
    pub version: String,
    /// The application may `import uwsgi`; another descriptor comes with the message, the door of the
    /// service behind that module.
    pub uwsgi: Option<UwsgiFacts>,
}

/// The facts that `import uwsgi` shows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UwsgiFacts {
    /// Options of uWSGI with their values, `None` for a flag.
    pub options: Vec<(String, Option<Vec<u8>>)>,
    /// Process id of the supervisor.
    pub master: u32,
    /// True in generations that a reload started.
    pub is_reload: bool,
}

/// The setting `preload`: import the application before the fork, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Preload {
    /// Import, then look whether forking is safe.
    #[default]
    Auto,
    /// Import and fork whatever it left behind.
    Yes,
    /// Every worker imports for itself.
    No,
}

/// The interpreter that runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interpreter {
    /// `3.11.2`.
    pub version: String,
    /// `sys.executable`.
    pub executable: String,
    /// `sys.prefix`.
    pub prefix: String,
    /// True if `sys.prefix` is a virtual environment.
    pub is_venv: bool,
}

/// The application that was imported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Loaded {
    /// Module and callable, `hello.wsgi:application`.
    pub app: String,
    /// `Django 5.2.19`, `Flask 3.1.3` or empty.
    pub framework: String,
    /// Duration of the import in milliseconds.
    pub import_ms: u64,
    /// Files that the application wants served for it; of equal prefixes the first that has
    /// the file.
    pub files: Vec<FoundFiles>,
    /// Objects left by the import that a fork breaks, where it is forked nevertheless (preload =
    /// yes).
    pub shared: Vec<String>,
}

/// A directory of files that the application named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FoundFiles {
    /// Path of a URL, without a slash at its end.
    pub prefix: String,
    /// The directory; absolute.
    #[serde(with = "native")]
    pub dir: PathBuf,
    /// The setting that named it: `STATIC_ROOT`.
    pub source: String,
}

impl ToTemplate {
    /// The message as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`ToTemplate::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

impl FromTemplate {
    /// The message as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`FromTemplate::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

impl Loaded {
    /// The block of a [`Ready`](crate::frames::ReplyKind::Ready) frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a block.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Loaded::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_allocvec(message).expect("these types have an encoding")
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    postcard::from_bytes(bytes).map_err(|_| malformed(WHAT, "not encoded by this build"))
}

/// Cuts a text so that its message fits.
fn cut<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut_to_end(text, MAX_MESSAGE))
}

/// Cuts a traceback to what fits into a message, keeping its end, where the cause is.
pub fn cut_to_end(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

const WHAT: &str = "control message";

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    fn full_boot() -> Boot {
        Boot {
            app: "hello.wsgi".into(),
            app_is_file: true,
            callable: "make".into(),
            factory: true,
            arguments: "\"a\", b=1".into(),
            find_factory: true,
            chdir: OsStr::from_bytes(b"/caf\xe9").into(),
            pythonpath: vec![OsStr::from_bytes(b"/\xff").into(), "/b".into()],
            imports: vec!["shop.tasks".into(), "patch.py".into()],
            argv: vec!["uwsgi".into(), OsStr::from_bytes(b"--caf\xe9").into()],
            threads: 2,
            workers: 4,
            preload: Preload::No,
            dev: true,
            terminal_group: 7,
            mount: "/shop".into(),
            find_static: true,
            find_media: true,
            gunicorn_hooks: "/srv/gunicorn.conf.py".into(),
            refork: true,
            apart: true,
            inherited: vec![3, 17],
            name: "hello.wsgi:make() at /shop".into(),
            version: "0.1.0".into(),
            uwsgi: Some(UwsgiFacts {
                options: vec![
                    ("master".into(), None),
                    ("http".into(), Some(b":\xff".to_vec())),
                ],
                master: 7,
                is_reload: true,
            }),
        }
    }

    #[test]
    fn every_message_reads_back_as_written() {
        for message in [
            ToTemplate::Boot(Box::new(full_boot())),
            ToTemplate::Fork { worker: 3 },
        ] {
            assert_eq!(
                ToTemplate::from_bytes(&message.to_bytes()).unwrap(),
                message
            );
        }
        let interpreter = Interpreter {
            version: "3.11.2".into(),
            executable: "/usr/bin/python3".into(),
            prefix: "/usr".into(),
            is_venv: false,
        };
        let loaded = Loaded {
            app: "a:b".into(),
            framework: "Flask 3".into(),
            import_ms: 12,
            files: vec![FoundFiles {
                prefix: "/static".into(),
                dir: OsStr::from_bytes(b"/srv/\xff/static").into(),
                source: "STATIC_ROOT".into(),
            }],
            shared: vec!["pipe (descriptor 5)".into()],
        };
        assert_eq!(Loaded::from_bytes(&loaded.to_bytes()).unwrap(), loaded);
        for message in [
            FromTemplate::Started(interpreter),
            FromTemplate::Clean,
            FromTemplate::Imported(loaded),
            FromTemplate::UnsafeToFork(vec!["thread x".into(), "socket y".into()]),
            FromTemplate::ImportFailed {
                traceback: "Traceback".into(),
            },
            FromTemplate::Forked { worker: 1, pid: 2 },
            FromTemplate::Promoted,
            FromTemplate::ForkFailed {
                worker: 1,
                why: "EAGAIN".into(),
            },
            FromTemplate::Exited {
                worker: 1,
                pid: 2,
                status: -1,
            },
        ] {
            assert_eq!(
                FromTemplate::from_bytes(&message.to_bytes()).unwrap(),
                message
            );
        }
    }

    #[test]
    fn a_long_traceback_keeps_its_end() {
        let traceback = format!("{}é the cause", "é".repeat(60_000));
        let message = FromTemplate::ImportFailed { traceback };
        match FromTemplate::from_bytes(&message.to_bytes()).unwrap() {
            FromTemplate::ImportFailed { traceback } => {
                assert!(traceback.len() <= MAX_MESSAGE && traceback.ends_with("é the cause"));
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ToTemplate::from_bytes(&bytes);
            let _ = FromTemplate::from_bytes(&bytes);
        }
    }
}
