//! Logs, the ways to look at a server and to steer it, and where settings come from.

use super::{Default, Setting};

const OTHER_HEADING: &str = "Settings and development";
const WATCHING_HEADING: &str = "Monitoring and control";
const LOGGING_HEADING: &str = "Logging";

/// Under the heading [`LOGGING_HEADING`].
pub(super) static LOGGING: &[Setting] = &[
    Setting {
        name: "access_log",
        value_name: "off|short|combined|json",
        heading: LOGGING_HEADING,
        help: "Format of the access log; short is for people, with colours on a terminal unless \
               NO_COLOR is set or TERM is dumb",
        repeatable: false,
        default: Default::Computed("short on a terminal and with --dev, else combined"),
    },
    Setting {
        name: "access_log_format",
        value_name: "PATTERN",
        heading: LOGGING_HEADING,
        help: "Pattern of lines of the access log, with variables of nginx: `$remote_addr $status \
               $request_time`; a pattern that begins with `{` is JSON",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "access_log_status",
        value_name: "CODE,...",
        heading: LOGGING_HEADING,
        help: "Statuses of responses that the access log has lines for, as in `4xx,5xx` or `404`; \
               repeatable",
        repeatable: true,
        default: Default::Computed("all"),
    },
    Setting {
        name: "access_log_skip",
        value_name: "PATH",
        heading: LOGGING_HEADING,
        help: "Path that the access log has no lines for, such as `/health`; with `*` at its end, \
               every path that begins so, as `*.css` every path that ends so, as `/static/*.css` every path that does both; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "log_format",
        value_name: "pretty|json",
        heading: LOGGING_HEADING,
        help: "Format of all other log lines",
        repeatable: false,
        default: Default::Computed("pretty on a terminal, else json"),
    },
    Setting {
        name: "log_level",
        value_name: "LEVEL",
        heading: LOGGING_HEADING,
        help: "off, error, warn, info, debug or trace, or a filter such as `info,pyserve::front=debug`",
        repeatable: false,
        default: Default::Value("info"),
    },
    Setting {
        name: "access_log_file",
        value_name: "FILE",
        heading: LOGGING_HEADING,
        help: "File to which requests are logged in place of standard output; SIGUSR1 opens it again",
        repeatable: false,
        default: Default::Computed("standard output"),
    },
    Setting {
        name: "log_file",
        value_name: "FILE",
        heading: LOGGING_HEADING,
        help: "File to which everything else is logged in place of standard error; SIGUSR1 opens it again",
        repeatable: false,
        default: Default::Computed("standard error"),
    },
    Setting {
        name: "startup_log",
        value_name: "FILE",
        heading: LOGGING_HEADING,
        help: "File to which the messages of the start and its outcome are appended as well",
        repeatable: false,
        default: Default::None,
    },
];

/// Under the heading [`WATCHING_HEADING`].
pub(super) static WATCHING: &[Setting] = &[
    Setting {
        name: "admin",
        value_name: "ADDR|off",
        heading: WATCHING_HEADING,
        help: "Address for /-/live, /-/ready, /-/metrics (Prometheus) and /-/status (JSON); open to \
               every client that reaches it",
        repeatable: false,
        default: Default::Computed("off"),
    },
    Setting {
        name: "admin_on_main",
        value_name: "yes|no",
        heading: WATCHING_HEADING,
        help: "Answer /-/live and /-/ready, and only these, on the main addresses as well",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "pidfile",
        value_name: "FILE",
        heading: WATCHING_HEADING,
        help: "File with the process id of the server, while it runs",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "control",
        value_name: "PATH|off",
        heading: WATCHING_HEADING,
        help: "Unix socket for the verbs status, health, reload, scale, maintenance, stacks and stop; only the \
               server's user and root may use it",
        repeatable: false,
        default: Default::Computed(
            "PID.sock in $XDG_RUNTIME_DIR/pyserve, or in pyserve-UID below the temp-dir",
        ),
    },
    Setting {
        name: "control_fifo",
        value_name: "FILE",
        heading: WATCHING_HEADING,
        help: "FIFO that the server makes and reads commands of one character from: r, R, c, w and W reload, q stops, \
               Q stops at once, + and - change the number of workers, l opens the log files again, P writes the \
               pidfile again, s logs the status",
        repeatable: false,
        default: Default::None,
    },
];

/// Under the heading [`OTHER_HEADING`].
pub(super) static OTHER: &[Setting] = &[
    Setting {
        name: "config",
        value_name: "FILE",
        heading: OTHER_HEADING,
        help: "File with settings",
        repeatable: false,
        default: Default::Computed("./pyserve.toml if there"),
    },
    Setting {
        name: "ini",
        value_name: "FILE[:SECTION]",
        heading: OTHER_HEADING,
        help: "File with settings of uWSGI, also .yaml, .json or .xml: all other settings take \
               precedence; `pyserve explain FILE` shows the meaning of each line; repeatable",
        repeatable: true,
        default: Default::Computed("$UWSGI_INI, or uwsgi.ini in $UWSGI_INI_DIR, where set"),
    },
    Setting {
        name: "nginx",
        value_name: "FILE",
        heading: OTHER_HEADING,
        help: "Site or nginx.conf of nginx: all other settings but --ini take precedence; `pyserve \
               explain FILE` shows the meaning of each line",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "gunicorn",
        value_name: "FILE",
        heading: OTHER_HEADING,
        help: "Configuration file of gunicorn, or python:MODULE, evaluated by the interpreter of the \
               application: all other settings but --ini take precedence; `pyserve explain FILE` shows \
               the meaning of each line",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "supervisord",
        value_name: "FILE",
        heading: OTHER_HEADING,
        help: "Configuration file of supervisord: its programs nginx, uWSGI and gunicorn become this server, \
               others companions; all other settings take precedence; `pyserve explain FILE` shows the \
               meaning of each line",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "image",
        value_name: "yes|no|s2i",
        heading: OTHER_HEADING,
        help: "In a container: read the variables and files by which widely used images are configured \
               (`pyserve help images`); s2i also migrates a Django project before the start",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "prestart",
        value_name: "FILE",
        heading: OTHER_HEADING,
        help: "Shell script that `pyserve serve` sources before it reads the settings: the variables that it exports \
               reach the settings and the application; repeatable",
        repeatable: true,
        default: Default::Computed("with `image`: $PRE_START_PATH, or ./prestart.sh if there"),
    },
    Setting {
        name: "dev",
        value_name: "",
        heading: OTHER_HEADING,
        help: "For development: one worker, no request timeout, a page with the traceback when an \
               exception leaves the application or its code cannot be imported, and a reload when a \
               *.py file is saved",
        repeatable: false,
        default: Default::Value("no"),
    },
];
