//! Options of uWSGI, gunicorn and other servers, and the options of the same meaning here.

/// The counterpart of another server's option `name`: a sentence without its end. `name` has no
/// leading hyphens; inside, hyphens and underscores are equal.
pub fn counterpart(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    let mut table = TABLE.iter();
    let found = table.find(|(names, _)| names.contains(&&*name));
    found.map(|(_, ours)| *ours)
}

/// Names, of which those of one letter are short options.
const TABLE: &[(&[&str], &str)] = &[
    // gunicorn's number, uWSGI's module.
    (
        &["w"],
        "the number of workers is '--workers N', the application '--app MODULE'",
    ),
    // uWSGI's number, the port of others, gunicorn's file for the process id.
    (
        &["p"],
        "the number of workers is '--workers N', the address '--bind PORT'",
    ),
    (&["processes"], "the number of workers is '--workers N'"),
    (
        &["cheaper", "cheaper-initial", "min-worker", "max-worker"],
        "workers follow the demand unasked, up to '--max-workers N'; a range is '--workers 2..8'",
    ),
    (
        &[
            "b",
            "s",
            "http",
            "http-socket",
            "socket",
            "http11-socket",
            "host",
            "port",
            "listen-address",
        ],
        "the address is '--bind ADDR', as in 8000, 127.0.0.1:8000, unix:/path",
    ),
    (
        &["listen", "l", "backlog"],
        "the address is '--bind ADDR', the requests that may wait '--queue-limit N'",
    ),
    (
        &[
            "module",
            "wsgi",
            "wsgi-file",
            "file",
            "callable",
            "application",
            "factory",
            "paste",
        ],
        "the application is '--app MODULE[:CALLABLE]' or '--app FILE[:CALLABLE]'",
    ),
    (
        &["home", "virtualenv", "pyhome", "H"],
        "the virtual environment is '--venv DIR'",
    ),
    (
        &["pp", "python-path", "app-dir"],
        "a directory for sys.path is '--pythonpath DIR'",
    ),
    (&["chdir2", "cd"], "the directory is '--chdir DIR'"),
    (&["user", "u"], "the user is '--uid USER'"),
    (&["group", "g"], "the group is '--gid GROUP'"),
    (
        &["harakiri", "timeout", "t"],
        "the longest time of a request is '--request-timeout TIME'",
    ),
    (
        &[
            "keep-alive",
            "timeout-keep-alive",
            "http-keepalive",
            "so-keepalive",
        ],
        "it is '--keepalive-timeout TIME'",
    ),
    (
        &[
            "graceful-shutdown-timeout",
            "timeout-graceful-shutdown",
            "worker-reload-mercy",
            "reload-mercy",
        ],
        "it is '--graceful-timeout TIME'",
    ),
    (
        &["static-map", "static-map2", "check-static", "docroot"],
        "files are '--static PREFIX=DIR'",
    ),
    (
        &["route-uri", "static-expires"],
        "it is '--static-max-age [PREFIX=]TIME'",
    ),
    (&["lazy", "lazy-apps"], "it is '--preload no'"),
    (
        &["reload", "py-autoreload", "python-autoreload", "debug", "r"],
        "a reload when a file is saved is '--autoreload yes', and comes with '--dev'",
    ),
    (
        &[
            "touch-chain-reload",
            "fs-reload",
            "reload-extra-file",
            "reload-include",
        ],
        "it is '--touch-reload FILE'",
    ),
    (
        &[
            "reload-on-rss",
            "reload-on-as",
            "evil-reload-on-rss",
            "memory-limit",
        ],
        "it is '--max-worker-memory BYTES'",
    ),
    (&["limit-max-requests"], "it is '--max-requests N'"),
    (
        &["max-requests-jitter", "max-requests-delta"],
        "it is not needed: workers are replaced one at a time",
    ),
    (
        &["stats", "stats-server", "statsd-host", "prometheus"],
        "metrics and status are at '--admin ADDR'",
    ),
    (
        &[
            "error-logfile",
            "logto",
            "logto2",
            "logger",
            "errlog",
            "access-logfile",
            "req-logger",
            "capture-output",
            "log-master",
        ],
        "logs go to standard output (requests) and standard error, or to '--access-log-file FILE' and '--log-file FILE'",
    ),
    (
        &["access-logformat", "log-format-style", "logformat"],
        "the access log is '--access-log off|short|combined|json', or '--access-log-format PATTERN'",
    ),
    (
        &["disable-logging", "no-access-log", "L"],
        "it is '--access-log off'",
    ),
    (
        &["log-config", "log-config-json"],
        "it is '--log-level LEVEL' and '--log-format pretty|json'",
    ),
    (
        &["yaml", "yml", "xml", "json-config", "env-file"],
        "the file with settings is '--config FILE', pyserve.toml, or '--ini FILE' for one of uWSGI",
    ),
    (&["e", "raw-env"], "a variable is '--env NAME=VALUE'"),
    (
        &["attach-daemon", "attach-daemon2", "smart-attach-daemon"],
        "it is a [[companion]] in pyserve.toml",
    ),
    (
        &["cron", "cron2", "unique-cron", "legion-cron", "timer"],
        "it is 'schedule' or 'every' of a [[companion]] in pyserve.toml",
    ),
    (
        &["allow", "deny"],
        "it is '--access', as in 'allow 10.0.0.0/8 deny all'",
    ),
    (
        &["auth-basic", "auth-basic-user-file", "htpasswd"],
        "it is '--basic-auth FILE'",
    ),
    (&["autoindex"], "it is '--static-listing yes'"),
    (&["ip-hash"], "it is '--balance address'"),
    (
        &["exec-pre-app", "exec-asap", "hook-pre-app", "exec-as-user"],
        "it is '--before-start COMMAND'",
    ),
    (
        &["mount", "manage-script-name", "root-path", "url-prefix"],
        "an application at a prefix is a [[location]] in pyserve.toml",
    ),
    (
        &[
            "forwarded-allow-ips",
            "proxy-allow-ips",
            "proxy-headers",
            "trusted-proxy",
        ],
        "proxies that are believed are '--trust CIDR'",
    ),
    (&["worker-tmp-dir"], "it is '--temp-dir DIR'"),
    (
        &[
            "limit-request-body",
            "client-max-body-size",
            "limit-post",
            "max-request-body-size",
        ],
        "it is '--max-body BYTES'",
    ),
    (
        &[
            "certfile",
            "keyfile",
            "https",
            "https-socket",
            "ssl-certfile",
            "ssl-keyfile",
        ],
        "there is no TLS: put a balancer or a proxy that has it in front",
    ),
    (
        &[
            "worker-class",
            "k",
            "async",
            "gevent",
            "asyncio",
            "loop",
            "worker-connections",
        ],
        "workers have processes and threads only: '--workers N', '--threads N'",
    ),
    (
        &["daemon", "D", "daemonize", "daemonize2"],
        "it stays in the foreground, for systemd, a container or a shell; 'pyserve status' and 'stop' find it",
    ),
    (
        &["pid", "pid-file", "pidfile2", "safe-pidfile"],
        "the file with its process id is '--pidfile FILE'",
    ),
    (
        &[
            "master",
            "M",
            "enable-threads",
            "single-interpreter",
            "strict",
            "vacuum",
            "die-on-term",
            "need-app",
            "buffer-size",
            "thunder-lock",
            "no-orphans",
            "auto-procname",
            "post-buffering",
            "offload-threads",
        ],
        "always on, or not needed: omit it",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::settings;

    #[test]
    fn the_table_names_what_exists_and_nothing_of_ours_twice() {
        let mut seen = BTreeSet::new();
        for (names, ours) in TABLE {
            for name in *names {
                assert!(seen.insert(name), "{name} stands there twice");
                let own = settings::all().any(|setting| setting.flag() == *name);
                assert!(!own, "{name} is an option of ours");
            }
            for part in ours.split("--").skip(1) {
                let end = part.find(|char: char| !char.is_ascii_lowercase() && char != '-');
                let flag = &part[..end.unwrap_or(part.len())];
                let known = settings::all().any(|setting| setting.flag() == flag);
                assert!(known, "--{flag}");
            }
        }
        assert!(counterpart("wsgi_file").unwrap().contains("--app"));
        assert_eq!(counterpart("nonsense"), None);
    }
}
