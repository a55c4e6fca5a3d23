//! Processes: how many, and when they come and go.

use super::{Default, Setting};

const HEADING: &str = "Workers";

/// Under the heading [`HEADING`].
pub(super) static WORKERS: &[Setting] = &[
    Setting {
        name: "workers",
        value_name: "auto|N|N..M",
        heading: HEADING,
        help: "Worker processes. `auto` starts with one for each CPU, and adds copies while requests \
               wait and CPUs are idle; `2..8` starts with two; a single number is fixed",
        repeatable: false,
        default: Default::Computed("auto; $WEB_CONCURRENCY where set; 1 with --dev"),
    },
    Setting {
        name: "max_workers",
        value_name: "N",
        heading: HEADING,
        help: "Most worker processes of each application with `--workers auto`: each may have \
               database connections of its own",
        repeatable: false,
        default: Default::Computed("16 for each CPU, as memory and descriptors allow"),
    },
    Setting {
        name: "threads",
        value_name: "N",
        heading: HEADING,
        help: "Threads in each worker",
        repeatable: false,
        default: Default::Value("1"),
    },
    Setting {
        name: "preload",
        value_name: "auto|yes|no",
        heading: HEADING,
        help: "Import the application once and fork the workers from it; with `auto` unless the \
               import leaves threads, connections or the like",
        repeatable: false,
        default: Default::Value("auto"),
    },
    Setting {
        name: "max_requests",
        value_name: "N",
        heading: HEADING,
        help: "Replace a worker after this number of requests, plus up to a tenth at random; 0 for \
               never",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "max_worker_lifetime",
        value_name: "TIME",
        heading: HEADING,
        help: "Replace a worker after this time, plus up to a tenth at random; 0 for never",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "max_worker_memory",
        value_name: "BYTES",
        heading: HEADING,
        help: "Replace a worker when its resident set size, shared pages included, reaches this; \
               `no` for none",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "refork",
        value_name: "N",
        heading: HEADING,
        help: "When a worker has answered this number of requests, make it the template of all \
               others, so that they share what it allocated while it warmed up; once after each \
               start and reload; 0 for never",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "touch_reload",
        value_name: "FILE",
        heading: HEADING,
        help: "Reload when this file changes or appears; with a slash at its end, when an entry of \
               this directory does; checked each second; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "touch_workers_reload",
        value_name: "FILE",
        heading: HEADING,
        help: "As `touch_reload`, but the server stays where `exit_on_reload` would end it; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "exit_on_reload",
        value_name: "yes|no",
        heading: HEADING,
        help: "End the server gracefully, with exit code 0, where a reload is asked for: for a service manager that \
               starts it again",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "autoreload",
        value_name: "yes|no",
        heading: HEADING,
        help: "Reload when a *.py file of the application is saved",
        repeatable: false,
        default: Default::Computed("no; yes with --dev"),
    },
    Setting {
        name: "limit_as",
        value_name: "BYTES",
        heading: HEADING,
        help: "Address space of each process of the application (RLIMIT_AS); allocations beyond it \
               raise MemoryError; 0 for no limit",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "gunicorn_hooks",
        value_name: "FILE",
        heading: HEADING,
        help: "Configuration file of gunicorn whose hooks each worker runs: post_fork, post_worker_init and \
               worker_exit; relative to the current directory",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "before_start",
        value_name: "COMMAND",
        heading: HEADING,
        help: "Shell command that runs once before the application is imported, such as `python \
               manage.py migrate`; if it fails, the server does not start",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "graceful_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Time for requests in flight after SIGTERM; 0 stops at once",
        repeatable: false,
        default: Default::Computed(
            "30; as process 1 of a container 8, in Kubernetes 25, to end before the container is killed",
        ),
    },
    Setting {
        name: "drain_delay",
        value_name: "TIME",
        heading: HEADING,
        help: "Time after SIGTERM during which connections are still accepted, while probes already \
               fail; the graceful timeout begins after it",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "upgrade_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Time for the new process of `pyserve upgrade` to get ready; then it is ended, and the old one \
               goes on",
        repeatable: false,
        default: Default::Value("300"),
    },
];
