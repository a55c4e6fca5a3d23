//! Messages between supervisor and template.
//!
//! One SEQPACKET message each: a kind byte, then a variables block. Descriptors that belong to a
//! message travel beside it, in the order named at the variant.

mod fields;

use crate::{Malformed, malformed};
use fields::{Fields, Writer};

/// Longest control message in bytes; tracebacks are cut to fit.
pub const MAX_MESSAGE: usize = 60_000;

/// Signal at which a process that imports the application writes its Python stacks to the pipe that
/// came with [`ToTemplate::Boot`]: `SIGRTMAX - 2` of glibc and musl. It is harmless from
/// [`FromTemplate::Started`] on, and in a worker from [`Activity::Starting`](crate::scoreboard::Activity)
/// with its process id on.
pub const STACKS_SIGNAL: i32 = 62;

/// From the supervisor to the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToTemplate {
    /// The first message. Descriptors: receiving end of the socket beside the request queue,
    /// memory of the request queue, memory of the scoreboard, sending end of the log, writing end
    /// of the pipe for stacks.
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
        /// Why, in words.
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boot {
    /// The module to import: a dotted name, or a path ending in a file if `app_is_file`.
    pub app: String,
    /// True if `app` is a path.
    pub app_is_file: bool,
    /// Attribute to call; empty: `application`, then `app`.
    pub callable: String,
    /// True if the attribute is a factory to be called without arguments.
    pub factory: bool,
    /// True if a factory with a usual name is acceptable where there is no application, because the
    /// setting names no attribute.
    pub find_factory: bool,
    /// Directory that becomes current and first on `sys.path`.
    pub chdir: String,
    /// Further directories for `sys.path`, in this order, behind `chdir`.
    pub pythonpath: Vec<String>,
    /// Threads in each worker.
    pub threads: u32,
    /// Worker processes that serve at a time; for `wsgi.multiprocess` and information.
    pub workers: u32,
    /// Import before the first fork.
    pub preload: Preload,
    /// Report tracebacks to the front (`--dev`).
    pub dev: bool,
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
    /// Name of the application in the titles of its processes.
    pub name: String,
    /// Version of pyserve.
    pub version: String,
}

/// The setting `preload`: import the application before the fork, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundFiles {
    /// Path of a URL, without a slash at its end.
    pub prefix: String,
    /// The directory; absolute.
    pub dir: String,
    /// The setting that named it: `STATIC_ROOT`.
    pub source: String,
}

impl ToTemplate {
    /// The message as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Boot(boot) => {
                let mut out = Writer::new(1);
                out.text("app", &boot.app);
                out.flag("app_is_file", boot.app_is_file);
                out.text("callable", &boot.callable);
                out.flag("factory", boot.factory);
                out.flag("find_factory", boot.find_factory);
                out.text("chdir", &boot.chdir);
                for dir in &boot.pythonpath {
                    out.text("pythonpath", dir);
                }
                out.number("threads", u64::from(boot.threads));
                out.number("workers", u64::from(boot.workers));
                out.number("preload", boot.preload as u64);
                out.flag("dev", boot.dev);
                out.flag("refork", boot.refork);
                out.flag("apart", boot.apart);
                for descriptor in &boot.inherited {
                    out.text("inherited", &descriptor.to_string());
                }
                out.text("mount", &boot.mount);
                out.flag("find_static", boot.find_static);
                out.flag("find_media", boot.find_media);
                out.text("name", &boot.name);
                out.text("version", &boot.version);
                out.done()
            }
            Self::Fork { worker } => {
                let mut out = Writer::new(2);
                out.number("worker", u64::from(*worker));
                out.done()
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`ToTemplate::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let (kind, fields) = Fields::read(bytes)?;
        match kind {
            1 => Ok(Self::Boot(Box::new(Boot {
                app: fields.text("app"),
                app_is_file: fields.flag("app_is_file"),
                callable: fields.text("callable"),
                factory: fields.flag("factory"),
                find_factory: fields.flag("find_factory"),
                chdir: fields.text("chdir"),
                pythonpath: fields.texts("pythonpath"),
                threads: fields.number("threads")? as u32,
                workers: fields.number("workers")? as u32,
                preload: match fields.number("preload")? {
                    0 => Preload::Auto,
                    1 => Preload::Yes,
                    _ => Preload::No,
                },
                dev: fields.flag("dev"),
                refork: fields.flag("refork"),
                apart: fields.flag("apart"),
                inherited: fields
                    .texts("inherited")
                    .iter()
                    .filter_map(|number| number.parse().ok())
                    .collect(),
                mount: fields.text("mount"),
                find_static: fields.flag("find_static"),
                find_media: fields.flag("find_media"),
                name: fields.text("name"),
                version: fields.text("version"),
            }))),
            2 => Ok(Self::Fork {
                worker: fields.number("worker")? as u32,
            }),
            _ => Err(malformed(WHAT, "unknown kind")),
        }
    }
}

impl FromTemplate {
    /// The message as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Started(interpreter) => {
                let mut out = Writer::new(1);
                out.interpreter(interpreter);
                out.done()
            }
            Self::Clean => Writer::new(8).done(),
            Self::Promoted => Writer::new(9).done(),
            Self::Imported(loaded) => {
                let mut out = Writer::new(2);
                out.loaded(loaded);
                out.done()
            }
            Self::UnsafeToFork(reasons) => {
                let mut out = Writer::new(3);
                for reason in reasons {
                    out.text("reason", reason);
                }
                out.done()
            }
            Self::ImportFailed { traceback } => {
                let mut out = Writer::new(4);
                out.text("traceback", traceback);
                out.done()
            }
            Self::Forked { worker, pid } => {
                let mut out = Writer::new(5);
                out.number("worker", u64::from(*worker));
                out.number("pid", u64::from(*pid));
                out.done()
            }
            Self::ForkFailed { worker, why } => {
                let mut out = Writer::new(6);
                out.number("worker", u64::from(*worker));
                out.text("why", why);
                out.done()
            }
            Self::Exited {
                worker,
                pid,
                status,
            } => {
                let mut out = Writer::new(7);
                out.number("worker", u64::from(*worker));
                out.number("pid", u64::from(*pid));
                out.number("status", u64::from(*status as u32));
                out.done()
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`FromTemplate::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let (kind, fields) = Fields::read(bytes)?;
        let worker = |fields: &Fields<'_>| fields.number("worker").map(|number| number as u32);
        let pid = |fields: &Fields<'_>| fields.number("pid").map(|number| number as u32);
        match kind {
            1 => Ok(Self::Started(fields.interpreter())),
            2 => Ok(Self::Imported(fields.loaded()?)),
            3 => Ok(Self::UnsafeToFork(fields.texts("reason"))),
            4 => Ok(Self::ImportFailed {
                traceback: fields.text("traceback"),
            }),
            5 => Ok(Self::Forked {
                worker: worker(&fields)?,
                pid: pid(&fields)?,
            }),
            6 => Ok(Self::ForkFailed {
                worker: worker(&fields)?,
                why: fields.text("why"),
            }),
            7 => Ok(Self::Exited {
                worker: worker(&fields)?,
                pid: pid(&fields)?,
                status: fields.number("status")? as u32 as i32,
            }),
            8 => Ok(Self::Clean),
            9 => Ok(Self::Promoted),
            _ => Err(malformed(WHAT, "unknown kind")),
        }
    }
}

impl Loaded {
    /// The block that a worker sends with `Ready` when it imported for itself.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(0);
        out.loaded(self);
        out.done()
    }

    /// Reads that block.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Loaded::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        Fields::read(bytes)?.1.loaded()
    }
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
    use proptest::prelude::*;

    #[test]
    fn every_message_reads_back_as_written() {
        let boot = Boot {
            app: "hello.wsgi".into(),
            app_is_file: true,
            callable: "make".into(),
            factory: true,
            find_factory: true,
            chdir: "/srv".into(),
            pythonpath: vec!["/a".into(), "/b".into()],
            threads: 2,
            workers: 4,
            preload: Preload::No,
            dev: true,
            mount: "/shop".into(),
            find_static: true,
            find_media: true,
            refork: true,
            apart: true,
            inherited: vec![3, 17],
            name: "hello.wsgi:make() at /shop".into(),
            version: "0.1.0".into(),
        };
        for message in [
            ToTemplate::Boot(Box::new(boot)),
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
                dir: "/srv/static".into(),
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
