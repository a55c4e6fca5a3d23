//! Codes of the messages that a user may look up, `PS-301`: at the end of a line for people, the
//! field `code` in JSON. `src/docs/troubleshooting.md` explains each, and `tests/manual.rs`
//! compares the two.
//!
//! A code keeps its meaning for good; a message that is dropped leaves its number unused.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $code;)*
    };
}

codes! {
    /// A value of a setting is invalid.
    INVALID_SETTING = "PS-101";
    /// A key of the settings file is unknown.
    UNKNOWN_SETTING = "PS-102";
    /// The settings file is not TOML, or cannot be read.
    SETTINGS_FILE = "PS-103";
    /// A `[[location]]` is inconsistent.
    LOCATION = "PS-104";
    /// There is nothing to serve.
    NOTHING_TO_SERVE = "PS-105";
    /// Several applications were found.
    AMBIGUOUS = "PS-106";
    /// There is no usable interpreter.
    NO_PYTHON = "PS-107";
    /// A permission is missing.
    NO_PERMISSION = "PS-108";
    /// An address cannot be bound.
    BIND = "PS-109";
    /// Privileges cannot be dropped.
    DROP_PRIVILEGES = "PS-110";
    /// The current directory does not exist.
    CURRENT_DIRECTORY = "PS-111";
    /// The command before the start failed.
    BEFORE_START = "PS-112";
    /// The server runs without a control socket.
    NO_CONTROL_SOCKET = "PS-113";
    /// The directory for large bodies is not writable.
    TEMP_DIR = "PS-114";
    /// Changed settings need a restart.
    NEEDS_RESTART = "PS-115";
    /// A verb does not reach a server.
    NO_SERVER = "PS-116";
    /// A certificate has a defect, or cannot be used.
    CERTIFICATE = "PS-117";
    /// An authority gives no certificate.
    ACME = "PS-118";

    /// The application cannot be imported.
    IMPORT = "PS-201";
    /// The workers keep dying at the start.
    NEVER_READY = "PS-202";
    /// The import left resources that a fork breaks.
    UNSAFE_TO_FORK = "PS-203";
    /// The same, with `--preload yes`.
    FORKED_UNSAFELY = "PS-204";
    /// A worker cannot become the template.
    REFORK_REFUSED = "PS-205";
    /// The interpreter does not start.
    INTERPRETER = "PS-206";
    /// A worker cannot be forked.
    FORK_FAILED = "PS-207";
    /// A reload failed.
    RELOAD_FAILED = "PS-208";
    /// The import takes long.
    IMPORT_HANGS = "PS-209";
    /// The module starts a server of its own.
    OWN_SERVER = "PS-210";
    /// An upgrade failed.
    UPGRADE_FAILED = "PS-211";

    /// A worker died.
    WORKER_DIED = "PS-301";
    /// A request was lost with its worker.
    REQUEST_LOST = "PS-302";
    /// A request exceeded its timeout.
    REQUEST_TIMEOUT = "PS-303";
    /// A request did not end after its timeout.
    REQUEST_STUCK = "PS-304";
    /// A worker takes no requests.
    UNRESPONSIVE = "PS-305";
    /// A template does not fork.
    TEMPLATE_HANGS = "PS-306";
    /// A worker does not exit.
    DOES_NOT_EXIT = "PS-307";
    /// The template died.
    TEMPLATE_DIED = "PS-308";
    /// A worker damaged shared memory, or violated the protocol.
    DAMAGED = "PS-309";
    /// The container's memory is nearly exhausted.
    MEMORY_PRESSURE = "PS-310";
    /// The graceful timeout is over.
    GRACEFUL_TIMEOUT = "PS-311";

    /// An upstream server cannot be reached.
    UNREACHABLE = "PS-401";
    /// An upstream server is skipped after failures.
    BACK_OFF = "PS-402";
    /// A request goes to the next upstream server.
    NEXT_SERVER = "PS-403";
    /// A response was truncated by the upstream server.
    TRUNCATED = "PS-404";
    /// An upstream server was too slow.
    UPSTREAM_TIMEOUT = "PS-405";
    /// The response of an upstream server is invalid.
    BAD_RESPONSE = "PS-406";

    /// The queue was full, or a request waited too long.
    QUEUE = "PS-501";
    /// Request bodies fill `--max-spool`.
    SPOOL_FULL = "PS-502";
    /// The memory budget is used up.
    MEMORY_BUDGET = "PS-503";
    /// Descriptors for spool files are used up.
    SPOOL_DESCRIPTORS = "PS-504";
    /// A body or response cannot be written to disk.
    SPOOL_DISK = "PS-505";
    /// All connections are in use.
    MAX_CONNECTIONS = "PS-506";
    /// An address has too many connections.
    MAX_CONNECTIONS_PER_IP = "PS-507";
    /// The descriptor limit is below `--max-connections`.
    DESCRIPTOR_LIMIT = "PS-508";
    /// A connection cannot be accepted.
    ACCEPT = "PS-509";
    /// A malformed request.
    MALFORMED = "PS-510";
    /// An invalid PROXY header.
    PROXY_HEADER = "PS-511";
    /// An HTTP/2 connection was closed.
    HTTP2 = "PS-512";
    /// A request body that is too long, too slow or incomplete.
    BODY = "PS-513";
    /// The application names a file outside of the internal locations.
    NOT_INTERNAL = "PS-514";
    /// A static file cannot be read.
    STATIC_FILE = "PS-515";
    /// The certificate of a client was refused.
    CLIENT_CERTIFICATE = "PS-516";

    /// Log lines were dropped.
    LOG_DROPPED = "PS-601";
    /// A companion ended.
    COMPANION_ENDED = "PS-602";
    /// An essential companion ended.
    ESSENTIAL_ENDED = "PS-603";
    /// A companion cannot be started.
    COMPANION_START = "PS-604";
}

/// The code of an end with this exit code; see "Exit codes" in the manual.
pub fn of_exit(code: u8) -> Option<&'static str> {
    match code {
        3 => Some(NEVER_READY),
        4 => Some(IMPORT),
        5 => Some(BEFORE_START),
        78 => Some(INTERPRETER),
        _ => None,
    }
}

/// A text for people, with the code at its end.
pub fn with_code(text: &str, code: Option<&str>) -> String {
    let text = text.trim_end();
    match code {
        Some(code) if !text.is_empty() => format!("{text} [{code}]"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_with_its_code() {
        assert_eq!(with_code("lost\n", Some(BIND)), "lost [PS-109]");
        assert_eq!(with_code("lost", None), "lost");
        assert_eq!(with_code("", Some(BIND)), "");
    }
}
