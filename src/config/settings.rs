//! The table of settings: every name, once, with its help and its default.
//!
//! The command line is generated from it, the environment and `pyserve.toml` are checked
//! against it, and [`super::resolve`] gives each entry its meaning. One name has three
//! spellings: `--max-body`, `PYSERVE_MAX_BODY`, `max_body`. A setting that stands here and
//! is not read by the resolver is found by a test there.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Name in `pyserve.toml`, `max_body`; the other spellings follow from it.
    pub name: &'static str,
    /// What stands for the value in the help, `BYTES`; empty for a plain switch.
    pub value_name: &'static str,
    /// Heading of the help under which it stands.
    pub heading: &'static str,
    /// What it does, in one or two lines.
    pub help: &'static str,
    /// Whether it may be given more than once.
    pub repeatable: bool,
    /// What holds when nobody sets it.
    pub default: Default,
}

/// What holds for a setting that nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This text, read as if somebody had written it.
    Value(&'static str),
    /// Something found out at start; the text says what.
    Computed(&'static str),
    /// Nothing.
    None,
}

impl Setting {
    /// `max-body`, the name behind `--`.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// `PYSERVE_MAX_BODY`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// Whether it is a switch that needs no value on the command line.
    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }

    /// Whether it may stand in `pyserve.toml`: all but the path of that file itself.
    pub fn is_for_file(&self) -> bool {
        self.name != "config"
    }

    /// The help with the default behind it.
    pub fn full_help(&self) -> String {
        match self.default {
            Default::Value(text) | Default::Computed(text) => {
                format!("{} [default: {text}]", self.help)
            }
            Default::None => self.help.to_owned(),
        }
    }
}

/// The setting of this name.
pub fn named(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// What the variables of settings begin with.
pub const PREFIX: &str = "PYSERVE_";

const APPLICATION: &str = "Application";
const PYTHON: &str = "Python";
const UPSTREAM: &str = "Servers behind pyserve";
const LISTENING: &str = "Listening";
const STATIC_FILES: &str = "Static files";
const WORKERS: &str = "Workers";
const LIMITS: &str = "Limits";
const LOGGING: &str = "Logging";
const WATCHING: &str = "Watching and steering";
const OTHER: &str = "Settings and development";

/// Every setting, in the order of the help.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "app",
        value_name: "MODULE|FILE[:CALLABLE]",
        heading: APPLICATION,
        help: "The WSGI application: a module (`mysite.wsgi`) or a file (`app.py`), with the name of the \
               callable if it is neither `application` nor `app`; `app:create_app()` calls a factory",
        repeatable: false,
        default: Default::Computed(
            "found: Django by manage.py or */wsgi.py, Flask by application.py, app.py, main.py, wsgi.py, index.py",
        ),
    },
    Setting {
        name: "chdir",
        value_name: "DIR",
        heading: APPLICATION,
        help: "Directory of the application: current, first on sys.path, and the base of relative paths \
               in the other settings",
        repeatable: false,
        default: Default::Computed("the current directory"),
    },
    Setting {
        name: "uwsgi",
        value_name: "ADDR",
        heading: UPSTREAM,
        help: "Have a uWSGI answer instead of an application: `unix:/tmp/uwsgi.sock` or `127.0.0.1:3031`; \
               repeatable, the one with the fewest requests gets the next",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "upstream",
        value_name: "URL",
        heading: UPSTREAM,
        help: "Have another server answer instead of an application: `http://127.0.0.1:9000`, \
               `http+unix:/path`, or `uwsgi://` as --uwsgi; repeatable, all of one kind",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "uwsgi_param",
        value_name: "NAME=VALUE",
        heading: UPSTREAM,
        help: "One more variable for uWSGI, or another value for one of the request's; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "uwsgi_modifier1",
        value_name: "N",
        heading: UPSTREAM,
        help: "First byte of the packets for uWSGI: 0 for WSGI",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "uwsgi_modifier2",
        value_name: "N",
        heading: UPSTREAM,
        help: "Last byte of their headers",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "uwsgi_insecure",
        value_name: "yes|no",
        heading: UPSTREAM,
        help: "Allow a uWSGI on another machine: its protocol has neither encryption nor password",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "upstream_connect_timeout",
        value_name: "TIME",
        heading: UPSTREAM,
        help: "How long a server behind pyserve may take to accept a connection; 504 beyond",
        repeatable: false,
        default: Default::Value("10"),
    },
    Setting {
        name: "upstream_send_timeout",
        value_name: "TIME",
        heading: UPSTREAM,
        help: "How long it may take nothing of what is sent; 504 beyond",
        repeatable: false,
        default: Default::Value("60"),
    },
    Setting {
        name: "upstream_read_timeout",
        value_name: "TIME",
        heading: UPSTREAM,
        help: "How long it may send nothing; 504 beyond",
        repeatable: false,
        default: Default::Value("60"),
    },
    Setting {
        name: "python",
        value_name: "FILE",
        heading: PYTHON,
        help: "Interpreter that runs the application: a path, or a name to look up on PATH",
        repeatable: false,
        default: Default::Computed(
            "the first of: the environment pyserve is installed in, VIRTUAL_ENV, ./.venv, python3 beside pyserve, python3 on PATH",
        ),
    },
    Setting {
        name: "venv",
        value_name: "DIR",
        heading: PYTHON,
        help: "Virtual or conda environment whose interpreter runs the application",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "pythonpath",
        value_name: "DIR",
        heading: PYTHON,
        help: "Directory for sys.path, behind `chdir`; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "bind",
        value_name: "ADDR",
        heading: LISTENING,
        help: "Address to listen on: `127.0.0.1:8000`, `[::]:8080`, `unix:/run/app.sock`; `8000` and \
               `:8000` mean every IPv4 interface; repeatable",
        repeatable: true,
        default: Default::Computed("127.0.0.1:8000, or 0.0.0.0:$PORT where PORT is set"),
    },
    Setting {
        name: "trust",
        value_name: "CIDR,...",
        heading: LISTENING,
        help: "Proxies whose X-Forwarded-*, Forwarded and X-Request-ID are believed: networks, \
               addresses, and `unix` for peers on Unix sockets; from all others these headers are \
               removed; repeatable",
        repeatable: true,
        default: Default::Computed("none"),
    },
    Setting {
        name: "proxy_protocol",
        value_name: "CIDR,...",
        heading: LISTENING,
        help: "Balancers that begin each connection with a PROXY header, version 1 or 2, as \
               networks, addresses, and `unix`; they must, and nobody else may; repeatable",
        repeatable: true,
        default: Default::Computed("none"),
    },
    Setting {
        name: "uid",
        value_name: "USER",
        heading: LISTENING,
        help: "Run as this user, by name or number, once the addresses are bound; only root may ask for \
               it, and cannot be had back",
        repeatable: false,
        default: Default::Computed("whoever starts it"),
    },
    Setting {
        name: "gid",
        value_name: "GROUP",
        heading: LISTENING,
        help: "Run as this group, by name or number, and no other",
        repeatable: false,
        default: Default::Computed("the group of `uid`"),
    },
    Setting {
        name: "server_header",
        value_name: "yes|no",
        heading: LISTENING,
        help: "Send `Server: pyserve` with responses",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "front_threads",
        value_name: "N",
        heading: LISTENING,
        help: "Threads that speak HTTP",
        repeatable: false,
        default: Default::Computed("half of the CPUs, from 1 to 8"),
    },
    Setting {
        name: "root",
        value_name: "DIR",
        heading: STATIC_FILES,
        help: "Directory whose `static`, `css`, `js` and `images` are served at /static, /css, /js and \
               /images, each if it exists",
        repeatable: false,
        default: Default::Computed("the chdir"),
    },
    Setting {
        name: "static",
        value_name: "PREFIX=DIR",
        heading: STATIC_FILES,
        help: "Serve the files of DIR below PREFIX, as in `/media=uploads`; replaces a location of the \
               same prefix; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "internal",
        value_name: "PREFIX=DIR",
        heading: STATIC_FILES,
        help: "Files below DIR that only the application can have sent, by answering with \
               `X-Accel-Redirect: PREFIX/name` or `X-Sendfile: DIR/name`; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "django_static",
        value_name: "yes|no",
        heading: STATIC_FILES,
        help: "Serve a Django project's STATIC_ROOT at its STATIC_URL; before anything is \
               collected, and with --dev, what its staticfiles finders find",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "django_media",
        value_name: "yes|no",
        heading: STATIC_FILES,
        help: "Serve a Django project's MEDIA_ROOT at its MEDIA_URL, to everybody",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "static_missing",
        value_name: "[PREFIX=]404|app|FILE",
        heading: STATIC_FILES,
        help: "What answers below PREFIX (without: everywhere) where there is no file: 404, the \
               application, or for pages this FILE of the location, as in `/=index.html` for a \
               single-page application; repeatable",
        repeatable: true,
        default: Default::Computed("404"),
    },
    Setting {
        name: "static_max_age",
        value_name: "[PREFIX=]TIME",
        heading: STATIC_FILES,
        help: "How long clients may use a file without asking; 0 makes them ask each time; repeatable",
        repeatable: true,
        default: Default::Computed("60, and 0 for HTML; 0 with --dev"),
    },
    Setting {
        name: "static_immutable",
        value_name: "auto|manifest|no",
        heading: STATIC_FILES,
        help: "Which files clients may keep for a year: those that staticfiles.json lists, and with \
               `auto` all that have a content hash in their name, as in `app.3f2a9c71.js`",
        repeatable: false,
        default: Default::Value("auto"),
    },
    Setting {
        name: "static_compress",
        value_name: "br|gzip|no",
        heading: STATIC_FILES,
        help: "How text is compressed, once and in the background, that has no .br, .zst or .gz file \
               beside it; repeatable",
        repeatable: true,
        default: Default::Computed("br, gzip"),
    },
    Setting {
        name: "static_cache",
        value_name: "BYTES",
        heading: STATIC_FILES,
        help: "Memory for small files and what is compressed; `no` for none",
        repeatable: false,
        default: Default::Value("32M"),
    },
    Setting {
        name: "static_check",
        value_name: "TIME",
        heading: STATIC_FILES,
        help: "How long a file in memory counts as unchanged before it is looked at again",
        repeatable: false,
        default: Default::Computed("1, and 0 with --dev"),
    },
    Setting {
        name: "static_links",
        value_name: "DIR",
        heading: STATIC_FILES,
        help: "Directory into which links in the static locations may lead, besides the locations; \
               repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "static_hidden",
        value_name: "yes|no",
        heading: STATIC_FILES,
        help: "Serve names that begin with a dot, *.py, *.pyc and *.sqlite3 as well",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "workers",
        value_name: "N|N..M",
        heading: WORKERS,
        help: "Worker processes; `2..8` starts with two, and has more while requests wait",
        repeatable: false,
        default: Default::Computed(
            "from CPU quota, affinity and memory; $WEB_CONCURRENCY where set; 1 with --dev",
        ),
    },
    Setting {
        name: "threads",
        value_name: "N",
        heading: WORKERS,
        help: "Threads in each worker",
        repeatable: false,
        default: Default::Value("1"),
    },
    Setting {
        name: "preload",
        value_name: "auto|yes|no",
        heading: WORKERS,
        help: "Import the application once and fork the workers from it; `auto` does so unless the import \
               leaves threads or sockets behind",
        repeatable: false,
        default: Default::Value("auto"),
    },
    Setting {
        name: "max_requests",
        value_name: "N",
        heading: WORKERS,
        help: "Replace a worker after about so many requests, up to a tenth more by chance; 0 for never",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "max_worker_lifetime",
        value_name: "TIME",
        heading: WORKERS,
        help: "Replace a worker after this time, up to a tenth more by chance; 0 for never",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "max_worker_memory",
        value_name: "BYTES",
        heading: WORKERS,
        help: "Replace a worker whose resident memory, shared pages included, reaches this; `no` for none",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "refork",
        value_name: "N",
        heading: WORKERS,
        help: "When a worker has answered so many requests, make it the template of all others, so that they share \
               what warming up has allocated; once after each start and reload; 0 for never",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "touch_reload",
        value_name: "FILE",
        heading: WORKERS,
        help: "Reload when this file changes or appears; looked at each second; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "before_start",
        value_name: "COMMAND",
        heading: WORKERS,
        help: "A line for the shell that runs once, before the application is imported, such as \
               `python manage.py migrate`; if it fails the server does not start",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "graceful_timeout",
        value_name: "TIME",
        heading: WORKERS,
        help: "How long requests in flight may take after SIGTERM; 0 stops at once",
        repeatable: false,
        default: Default::Computed(
            "30; as process 1 of a container 8, in Kubernetes 25, so that it ends before it is killed",
        ),
    },
    Setting {
        name: "drain_delay",
        value_name: "TIME",
        heading: WORKERS,
        help: "How long connections are still accepted after SIGTERM, while probes already say that the \
               server is not ready; the graceful timeout begins behind it",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "queue_limit",
        value_name: "N",
        heading: LIMITS,
        help: "Requests that may wait for a worker; 503 beyond",
        repeatable: false,
        default: Default::Value("1024"),
    },
    Setting {
        name: "queue_timeout",
        value_name: "TIME",
        heading: LIMITS,
        help: "How long a request may wait for a worker; 503 beyond",
        repeatable: false,
        default: Default::Value("30"),
    },
    Setting {
        name: "request_timeout",
        value_name: "TIME",
        heading: LIMITS,
        help: "How long a request may keep a worker thread; 504 beyond, its stack goes to the log, and \
               an exception ends it, or else its worker is replaced; 0 for no limit",
        repeatable: false,
        default: Default::Computed("60; no limit with --dev"),
    },
    Setting {
        name: "max_body",
        value_name: "BYTES",
        heading: LIMITS,
        help: "Longest request body, as `100M` or `1.5G`; 0 for no limit; 413 beyond",
        repeatable: false,
        default: Default::Value("100M"),
    },
    Setting {
        name: "header_timeout",
        value_name: "TIME",
        heading: LIMITS,
        help: "How long a client may take to send its request headers",
        repeatable: false,
        default: Default::Value("15"),
    },
    Setting {
        name: "body_timeout",
        value_name: "TIME",
        heading: LIMITS,
        help: "How long a client may pause while it sends a body or takes a response",
        repeatable: false,
        default: Default::Value("30"),
    },
    Setting {
        name: "keepalive_timeout",
        value_name: "TIME",
        heading: LIMITS,
        help: "How long an idle connection stays open",
        repeatable: false,
        default: Default::Value("75"),
    },
    Setting {
        name: "buffering",
        value_name: "yes|no",
        heading: LIMITS,
        help: "Take responses off the application faster than slow clients take them: in memory, \
               then in files; `no` lets the application wait for its clients, and so does a \
               response with `X-Accel-Buffering: no`",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "request_buffering",
        value_name: "yes|no",
        heading: LIMITS,
        help: "Read the body of a request to its end before a worker is taken; `no` lets the \
               application read it while it arrives, and wait for its client",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "compress",
        value_name: "CODING,...|no",
        heading: LIMITS,
        help: "How responses of the application are compressed for clients that accept it: of zstd, \
               br and gzip, which are taken in this order; `no` for not at all; repeatable",
        repeatable: true,
        default: Default::Computed("zstd, br, gzip"),
    },
    Setting {
        name: "compress_types",
        value_name: "TYPE,...",
        heading: LIMITS,
        help: "Types of responses that are compressed, as in `text/*,application/json`; repeatable",
        repeatable: true,
        default: Default::Computed(
            "text, JSON, XML, JavaScript and WebAssembly, but no event streams",
        ),
    },
    Setting {
        name: "compress_min",
        value_name: "BYTES",
        heading: LIMITS,
        help: "Shortest response that is compressed",
        repeatable: false,
        default: Default::Value("1K"),
    },
    Setting {
        name: "compress_private",
        value_name: "yes|no",
        heading: LIMITS,
        help: "Compress answers to requests with cookies or credentials, and those that set cookies, \
               too: safe where no page shows what others make its visitors send beside a secret \
               (BREACH)",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "max_response_spool",
        value_name: "BYTES",
        heading: LIMITS,
        help: "How much of one response may wait in a file for its client; beyond it the \
               application waits; `no` for no files",
        repeatable: false,
        default: Default::Value("1G"),
    },
    Setting {
        name: "response_spool_total",
        value_name: "BYTES",
        heading: LIMITS,
        help: "How much of all responses together may wait in files",
        repeatable: false,
        default: Default::Value("10G"),
    },
    Setting {
        name: "min_body_rate",
        value_name: "BYTES|no",
        heading: LIMITS,
        help: "Bytes in a second that a client must send of a body, or take of a response, after a \
               grace of `body_timeout`",
        repeatable: false,
        default: Default::Value("240"),
    },
    Setting {
        name: "max_spool",
        value_name: "BYTES",
        heading: LIMITS,
        help: "What all request bodies together may take on disk, in `temp_dir`; 0 for no limit; 503 \
               beyond",
        repeatable: false,
        default: Default::Value("10G"),
    },
    Setting {
        name: "max_connections",
        value_name: "N",
        heading: LIMITS,
        help: "Connections at a time; further ones wait until one ends",
        repeatable: false,
        default: Default::Computed("10000, or half of the descriptors (ulimit -n)"),
    },
    Setting {
        name: "max_connections_per_ip",
        value_name: "N|no",
        heading: LIMITS,
        help: "Connections at a time from one address (IPv6: from one /64) that --trust does not \
               name; further ones are closed",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "rate_limit",
        value_name: "N/s|N/m|N/h|no",
        heading: LIMITS,
        help: "Requests from one address (IPv6: from one /64), files included; 429 beyond",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "rate_burst",
        value_name: "N",
        heading: LIMITS,
        help: "Requests of one address that may come at once under --rate-limit",
        repeatable: false,
        default: Default::Computed("the number of --rate-limit"),
    },
    Setting {
        name: "temp_dir",
        value_name: "DIR",
        heading: LIMITS,
        help: "Where large request bodies are kept while they arrive, and long responses while \
               slow clients take them",
        repeatable: false,
        default: Default::Computed("$TMPDIR, or /tmp"),
    },
    Setting {
        name: "access_log",
        value_name: "off|combined|json",
        heading: LOGGING,
        help: "Format of the access log",
        repeatable: false,
        default: Default::Computed("off on a terminal, else combined"),
    },
    Setting {
        name: "log_format",
        value_name: "pretty|json",
        heading: LOGGING,
        help: "Format of all other log lines",
        repeatable: false,
        default: Default::Computed("pretty on a terminal, else json"),
    },
    Setting {
        name: "log_level",
        value_name: "LEVEL",
        heading: LOGGING,
        help: "off, error, warn, info, debug or trace, or a filter such as `info,pyserve::front=debug`",
        repeatable: false,
        default: Default::Value("info"),
    },
    Setting {
        name: "admin",
        value_name: "ADDR|off",
        heading: WATCHING,
        help: "Address with /-/live, /-/ready, /-/metrics (Prometheus) and /-/status (JSON), for \
               whoever reaches it",
        repeatable: false,
        default: Default::Computed("off"),
    },
    Setting {
        name: "admin_on_main",
        value_name: "yes|no",
        heading: WATCHING,
        help: "Answer /-/live and /-/ready, and only these, on the main addresses as well",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "control",
        value_name: "PATH|off",
        heading: WATCHING,
        help: "Unix socket through which the verbs (status, health, reload, scale, stacks, stop) reach this \
               server; only its user and root may",
        repeatable: false,
        default: Default::Computed(
            "PID.sock in $XDG_RUNTIME_DIR/pyserve, or in pyserve-UID below the temp-dir",
        ),
    },
    Setting {
        name: "startup_log",
        value_name: "FILE",
        heading: LOGGING,
        help: "Append what the server says about its start, and how that went, to this file as well",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "config",
        value_name: "FILE",
        heading: OTHER,
        help: "File with settings",
        repeatable: false,
        default: Default::Computed("./pyserve.toml if there"),
    },
    Setting {
        name: "dev",
        value_name: "",
        heading: OTHER,
        help: "For development: one worker, no request timeout, a page with the traceback where an exception leaves \
               the application, and a reload when a *.py file is saved",
        repeatable: false,
        default: Default::Value("no"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_spell_in_all_three_ways() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(
                SETTINGS[..index]
                    .iter()
                    .all(|other| other.name != setting.name),
                "{} stands there twice",
                setting.name
            );
            assert!(
                setting
                    .name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{} does not spell as a flag and a variable",
                setting.name
            );
            assert!(!setting.help.ends_with('.'), "{}", setting.name);
        }
        let max_body = named("max_body").unwrap();
        assert_eq!(max_body.flag(), "max-body");
        assert_eq!(max_body.variable(), "PYSERVE_MAX_BODY");
    }
}
