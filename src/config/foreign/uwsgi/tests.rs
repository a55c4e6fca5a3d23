//! Readings of texts without a file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Form, Sources, read};
use crate::config::foreign::surroundings::FileKind;
use crate::config::foreign::{Files, Reading, Surroundings};
use crate::config::{Environment, HostFacts};

/// Calls `ask` where these files are, below `/srv/app`, and nothing else.
pub(super) fn with_files<T>(
    files: &[(&str, &str)],
    variables: &[(&str, &str)],
    ask: impl FnOnce(&Surroundings<'_>) -> T,
) -> T {
    let files: BTreeMap<PathBuf, String> = files
        .iter()
        .map(|(name, text)| (Path::new("/srv/app").join(name), (*text).to_owned()))
        .collect();
    let environment: Environment = variables.iter().copied().collect();
    let read_file = |path: &Path, _: usize| {
        let found = files.get(path).ok_or("there is no such file".to_owned())?;
        Ok(found.clone().into_bytes())
    };
    let kind = |path: &Path| {
        let is_dir = path.components().eq(Path::new("/srv/app").components());
        let is_file = files.contains_key(path);
        (is_dir || is_file).then_some(FileKind {
            is_link: false,
            is_file,
            is_dir,
            inode: 17,
        })
    };
    let files = Files {
        read: &read_file,
        kind: &kind,
        real: &|path| Some(path.to_owned()),
        stand_in: &|_| None,
    };
    ask(&Surroundings {
        environment: &environment,
        current_dir: Path::new("/srv/app"),
        hostname: "host".to_owned(),
        cpus: 4,
        user: (1000, "web".to_owned()),
        group: (1000, "web".to_owned()),
        is_root: false,
        is_explained: false,
        now: std::time::UNIX_EPOCH + std::time::Duration::from_micros(1_795_963_823_837_894),
        files: &files,
    })
}

fn reading(files: &[(&str, &str)], variables: &[(&str, &str)], sources: &Sources) -> Reading {
    with_files(files, variables, |around| read(sources, around))
}

fn of_ini(text: &str, variables: &[(&str, &str)]) -> Reading {
    let sources = Sources {
        variables: true,
        files: vec![("uwsgi.ini".to_owned(), Form::Ini)],
        ..Sources::default()
    };
    reading(&[("uwsgi.ini", text)], variables, &sources)
}

fn value(reading: &Reading, name: &str) -> String {
    let entry = reading.layer.entry(name);
    entry.map_or("none".to_owned(), |entry| entry.values.join(" | "))
}

#[test]
fn variables_of_uwsgi_come_before_the_file_as_options() {
    let variables = [
        ("UWSGI_CHEAPER", "2"),
        ("UWSGI_PROCESSES", "16"),
        ("UWSGI_HARAKIRI", "20"),
        ("UWSGI_RELOADS", "1"),
        ("UWSGI_SOMETHING_ELSE", "1"),
    ];
    let read = of_ini("[uwsgi]\nmodule = main\ncallable = app\n", &variables);
    assert_eq!(value(&read, "workers"), "2..16");
    assert_eq!(value(&read, "request_timeout"), "20");
    assert_eq!(value(&read, "app"), "main:app");
    assert!(read.warnings().is_empty(), "{:?}", read.warnings());
    // The file comes later, so it counts.
    let read = of_ini("[uwsgi]\nmodule = main\nharakiri = 30\n", &variables);
    assert_eq!(value(&read, "request_timeout"), "30");
}

#[test]
fn errors_and_origins_name_file_and_line() {
    let read = of_ini("[uwsgi]\n\nmodule = main\nprocesses = 4\n", &[]);
    let origin = |name: &str| read.layer.entry(name).unwrap().origin.clone();
    assert_eq!(origin("workers").to_string(), "uwsgi.ini:4");
    assert_eq!(
        origin("workers").spell("workers", "4"),
        "uwsgi.ini:4: processes = 4"
    );
    let read = of_ini("[uwsgi]\nprocesses = 2\ncheaper = 2\n", &[]);
    let mistake = read.mistake().unwrap().to_string();
    assert!(
        mistake.starts_with("uwsgi.ini:3: cheaper = 2: cheaper has to be lower"),
        "{mistake}"
    );
}

#[test]
fn lines_of_an_included_file_have_its_name() {
    let files = [
        (
            "uwsgi.ini",
            "[uwsgi]\nini = conf/base.ini:prod\nthreads = 2\n",
        ),
        (
            "conf/base.ini",
            "[prod]\nmodule = %n.wsgi\nharakari = 3\n[dev]\nthreads = 1\n",
        ),
    ];
    let sources = Sources {
        files: vec![("uwsgi.ini".to_owned(), Form::Ini)],
        ..Sources::default()
    };
    let read = reading(&files, &[], &sources);
    assert_eq!(value(&read, "app"), "base.wsgi");
    assert_eq!(
        read.warnings(),
        [
            "conf/base.ini:3: harakari = 3: unknown: no option of uWSGI, which ignores it, did you mean harakiri?"
        ]
    );
    let missing = reading(&files[..1], &[], &sources);
    let mistake = missing.mistake().unwrap().to_string();
    assert!(
        mistake.contains("uwsgi.ini:2: ini = conf/base.ini:prod: cannot read"),
        "{mistake}"
    );
}

#[test]
fn variables_of_a_file_that_a_command_means_for_its_program_are_named() {
    let note = |line: &str| {
        let read = of_ini(&format!("[uwsgi]\nmodule = main\n{line}\n"), &[]);
        let line = read.lines.iter().find(|line| line.place.line == 3).unwrap();
        assert_eq!(line.verdict.word(), "honoured", "{line}");
        let text = line.verdict.detail();
        text.find(" (in a file").map(|at| text[at..].to_owned())
    };
    assert_eq!(
        note("unique-cron = 0 3 -1 -1 -1 find /tmp -printf \"%T@ %p\"").as_deref(),
        Some(
            " (in a file of uWSGI %T is the time of the start, %p is the path of the file: write %%T, %%p for the program)"
        )
    );
    for line in [
        "cron2 = hour=3 backup-%Y%m%d",
        "attach-daemon = rotate `date +%H`",
        "smart-attach-daemon = /run/x.pid run --stamp %T",
        "exec-asap = printf %s x",
    ] {
        assert!(note(line).is_some(), "{line}");
    }
    for line in [
        "attach-daemon = celery --workdir %d -n %n@%h",
        "exec-asap = run 100%% %%T",
        "env = A=%T",
    ] {
        assert_eq!(note(line), None, "{line}");
    }
    let read = of_ini("[uwsgi]\nmodule = main\nenv = A=%b\nenv = B=%%b\n", &[]);
    assert!(
        read.warnings()[0].contains("env = A=%b: not supported"),
        "{:?}",
        read.warnings()
    );
    assert_eq!(value(&read, "env"), "B=%b");
    // A command line is not a file.
    let sources = Sources {
        command_line: ["--module", "main", "--exec-asap", "date +%T"]
            .map(str::to_owned)
            .to_vec(),
        ..Sources::default()
    };
    let read = reading(&[], &[], &sources);
    assert_eq!(value(&read, "before_start"), "date +%T");
    assert!(
        read.lines
            .iter()
            .all(|line| !line.verdict.detail().contains("in a file"))
    );
}

#[test]
fn a_value_that_names_no_application_is_wrong() {
    let check = |line: &str, is_wrong: bool| {
        let read = of_ini(&format!("[uwsgi]\nhttp = :8000\n{line}\n"), &[]);
        assert_eq!(read.exit_code() == 2, is_wrong, "{line}: {:?}", read.lines);
    };
    for line in [
        "module = app:app  # comment",
        "module = \"probe:application\"",
        "module = probe:application;x",
        "module = app:",
        "wsgi-file= = /app/wsgi.py",
        "wsgi-file = \"app.py\"",
        "module = app\ncallable = app # it",
        "module = app\nfoo = 1\nstrict = true",
        "module = app\nstrict = true\nfoo = 1",
    ] {
        check(line, true);
    }
    for line in [
        "module = app:create()",
        "module = site.wsgi",
        "wsgi-file = gone/app.py\ncallable = app.wsgi",
        "module = app\nstrict = true\nset = foo=1",
    ] {
        check(line, false);
    }
}

#[test]
fn differences_depend_on_other_lines() {
    let verdict = |text: &str| {
        let read = of_ini(&format!("[uwsgi]\n{text}\nmodule = app\n"), &[]);
        let line = read.lines.iter().find(|line| line.place.line == 2).unwrap();
        line.verdict.to_string()
    };
    let check = |text: &str, expected: &str| {
        let found = verdict(text);
        assert!(found.starts_with(expected), "{text}: {found}");
    };
    check("enable-threads = true\nmaster = true", "differs here");
    check("enable-threads = true\nworkers = 3", "differs here");
    check("enable-threads = true", "already so");
    check(
        "enable-threads = true\nmaster = true\nlazy-apps = true",
        "already so",
    );
    check("chdir2 = /srv/x/\nchdir = /srv/x", "already so");
    check("chdir2 = /srv/y\nchdir = /srv/x", "not supported");
    check("reload-on-as = 256", "differs here: max_worker_memory");
    check("reload-on-as = 256\nreload-on-rss = 128", "no effect here");
    check("http-socket = :$(SOME_PORT)", "filled at the start");
    check(
        "socket-timeout = 5\nhttp-socket = :$(SOME_PORT)",
        "honoured as body_timeout = 5",
    );
    check(
        "projectname = x",
        "unknown: no option of uWSGI, which ignores it",
    );
    assert!(!verdict("projectname = x").contains("looks like"));
    let note = "(the scheme that a proxy states counts with `trust` alone)";
    assert!(verdict("http-socket = :8000").ends_with(note));
}

#[test]
fn routes_reach_files() {
    let of = |line: &str| {
        let text = format!(
            "[uwsgi]\n{line}\nmodule = app\nstatic-map = /static=/srv/static\nstatic-map = /one.txt=/srv/one.txt\n"
        );
        let read = of_ini(&text, &[]);
        let found = read.lines.iter().find(|line| line.place.line == 2).unwrap();
        let tables = read.layer.locations.iter();
        let served = tables.filter(|table| {
            let files = ["static", "file"]
                .iter()
                .any(|name| table.entry(name).is_some());
            files && table.entry("header").is_some()
        });
        (found.verdict.word(), served.count(), value(&read, "static"))
    };
    let whole = "/static=/srv/static";
    let check = |line: &str, word: &str, tables: usize, files: &str| {
        assert_eq!(of(line), (word, tables, files.to_owned()), "{line}");
    };
    check("route = ^/static/ addheader:A: b", "honoured", 1, "none");
    check("route = ^/static addheader:A: b", "honoured", 1, "none");
    check("route = ^/static/x/ addheader:A: b", "honoured", 1, whole);
    check("route = ^/one\\.txt$ addheader:A: b", "honoured", 1, whole);
    check(
        "route = ^/static/gone$ addheader:A: b",
        "honoured",
        0,
        whole,
    );
    check("route = ^/x/ addheader:A: b", "honoured", 0, whole);
    check("route = ^/static/x addheader:A: b", "unsupported", 0, whole);
    check("route = ^/st addheader:A: b", "unsupported", 0, whole);
    check(
        "route-host = ^a.test$ addheader:A: b",
        "unsupported",
        0,
        whole,
    );
    check("route = ^/static/ redirect:/x", "unsupported", 0, whole);
    check("route = ^/static/old/ redirect:/x", "honoured", 0, whole);
    check("route = ^/sta basicauth:R,/no/such", "wrong", 0, whole);
}

#[test]
fn a_plugin_without_options_of_its_own_does_nothing() {
    let check = |value: &str, word: &str| {
        let read = of_ini(&format!("[uwsgi]\nmodule = main\nplugins = {value}\n"), &[]);
        let line = read.lines.iter().find(|line| line.place.line == 3).unwrap();
        assert_eq!(line.verdict.word(), word, "{line}");
    };
    check("python3, http", "already_so");
    check("python3, syslog", "no_effect");
    check(
        "/usr/lib/uwsgi/rsyslog_plugin.so,router_redirect",
        "no_effect",
    );
    check("gevent", "no_effect");
    check("python3, php", "unsupported");
    check("syslog, psgi", "unsupported");
}

#[test]
fn every_part_of_a_template_has_one_verdict() {
    let text = "[uwsgi]\nmodule = {{ name }}.wsgi\ntouch-reload = /srv/{{ name }}/x\n{% if x %}\n\
                attach-daemon = run {{ name }}\nvirtualenv = {{ venv }}\n";
    let read = of_ini(text, &[]);
    assert_eq!(read.exit_code(), 1);
    for line in read.lines.iter().filter(|line| line.place.line > 1) {
        assert_eq!(
            line.verdict.to_string(),
            "not set: a template: fill it in first"
        );
    }
    // Those without which the server is another one end the start.
    let fatal = read.lines.iter().filter(|line| line.verdict.is_fatal());
    assert_eq!(
        fatal.map(|line| line.place.line).collect::<Vec<_>>(),
        [2, 6]
    );
}

#[test]
fn lines_of_a_file_without_sections_stand_in_none() {
    let read = of_ini("module = main\n", &[]);
    let shown: Vec<_> = read.lines.iter().map(ToString::to_string).collect();
    assert!(
        shown
            .iter()
            .any(|line| line.contains("it stands in no section")),
        "{shown:?}"
    );
    assert_eq!(read.exit_code(), 2);
}

#[test]
fn a_secret_is_hidden_wherever_its_value_ends() {
    let text = "[uwsgi]\nmodule = main\npassword = hunter2\nenv = URL=x-%(password)-y\n\
                attach-daemon = run -p$(MY_TOKEN)\nexec-asap = a %(password)\n";
    let read = of_ini(text, &[("MY_TOKEN", "t0ken")]);
    let shown: Vec<_> = read.lines.iter().map(ToString::to_string).collect();
    let shown = format!(
        "{}{}",
        shown.join("\n"),
        crate::config::foreign::equivalent::file(&read.layer, true)
    );
    assert!(
        !shown.contains("hunter2") && !shown.contains("t0ken"),
        "{shown}"
    );
    assert_eq!(value(&read, "env"), "URL=x-hunter2-y");
}

#[test]
fn without_root_the_user_does_not_change_as_in_uwsgi() {
    let read = of_ini("[uwsgi]\nmodule = main\nuid = www-data\n", &[]);
    assert_eq!(value(&read, "uid"), "none");
    assert_eq!(read.exit_code(), 0);
}

#[test]
fn a_command_line_is_read_as_getopt_reads_it() {
    let check = |line: &str, name: &str, expected: &str| {
        let sources = Sources {
            command_line: line.split(' ').map(str::to_owned).collect(),
            ..Sources::default()
        };
        let files = [("site.ini", "[uwsgi]\nharakiri = 9\n"), ("app.py", "")];
        assert_eq!(
            value(&reading(&files, &[], &sources), name),
            expected,
            "{line}"
        );
    };
    check("--http :8000 --module site.wsgi -Mp 4", "workers", "4");
    check("-p4 -w site", "app", "site");
    check("--processes=4 -w site", "workers", "4");
    check("-C660 --http-socket /run/x -w a", "bind_mode", "660");
    check("-C --http-socket /run/x -w a", "bind_mode", "666");
    check("--ini site.ini -w a", "request_timeout", "9");
    check("site.ini -w a", "request_timeout", "9");
    check("app.py --http :80", "app", "app.py");
    check("site.wsgi:app --http :80", "app", "site.wsgi:app");
    check("--ini site.ini --harakiri 3 -w a", "request_timeout", "3");
    check("--process 4 -w a", "workers", "4");
    check("--proces=4 -w a", "workers", "4");
    // As word processors and web pages print it.
    check("–ini=site.ini -w a", "request_timeout", "9");
    check("—ini site.ini –w a", "app", "a");
    check("‑‑harakiri 3 −p 4 -w a", "workers", "4");
}

#[test]
fn a_command_line_that_getopt_refuses_is_wrong() {
    let check = |line: &str, expected: &str| {
        let sources = Sources {
            command_line: line.split(' ').map(str::to_owned).collect(),
            ..Sources::default()
        };
        let mistake = reading(&[], &[], &sources)
            .mistake()
            .map(|error| error.to_string());
        assert!(
            mistake.is_some_and(|text| text.contains(expected)),
            "{line}"
        );
    };
    check("-w a --master=true", "it takes no value");
    check("-w a --harakiri", "it needs a value");
    check("-w a --harak 3", "no such option");
    check("-w a -Z", "no such option");
}

#[test]
fn a_dash_before_no_option_is_named() {
    let sources = Sources {
        command_line: vec!["–uini=site.ini".to_owned()],
        ..Sources::default()
    };
    let reading = reading(&[], &[], &sources);
    let mistake = reading.mistake().expect("no option").to_string();
    assert!(
        mistake.contains("not with the hyphens of an option"),
        "{mistake}"
    );
    // A file of such a name is that file.
    let sources = Sources {
        command_line: vec!["–ini.ini".to_owned()],
        ..Sources::default()
    };
    let files = [("–ini.ini", "[uwsgi]\nharakiri = 9\n")];
    assert_eq!(
        value(&self::reading(&files, &[], &sources), "request_timeout"),
        "9"
    );
}

#[test]
fn the_tests_of_a_quota_hold_for_common_shapes() {
    // The shapes that occur most in public repositories: none of them may leave a line over.
    for text in [
        "[uwsgi]\nmodule = a\nmaster = true\nprocesses = 4\nsocket = :3031\nvacuum = true\ndie-on-term = true\n",
        "[uwsgi]\nwsgi-file = a.py\ncallable = app\nhttp = 0.0.0.0:80\nthreads = 2\nstats = 127.0.0.1:9191\n",
        "[uwsgi]\nmodule = a\nlog-encoder = nl\nlog-route = x .*\npp = .\nlazy = 1\nsafe-pidfile = /x\numask = 022\nlimit-as = 512\n",
        "[uwsgi]\nmodule = a\nroute = ^/ping donotlog:\nexec-asap = true\nsmart-attach-daemon = /p sleep 1\n",
    ] {
        let read = of_ini(text, &[]);
        assert_eq!(read.exit_code(), 0, "{text}: {:?}", read.lines);
    }
}

/// The verdict of a line beside an application that is reached by HTTP.
fn verdict(line: &str) -> (String, String) {
    let names_one = ["module", "wsgi", "file", "mount", "worker-mount"]
        .iter()
        .any(|name| line.starts_with(name));
    let app = if names_one { "" } else { "module = app" };
    let text = format!("[uwsgi]\nhttp = /run/x.sock\nprocesses = 8\n{line}\n{app}\n");
    let read = of_ini(&text, &[]);
    let of_line = |found: &&crate::config::foreign::Line| found.place.line == 4;
    let found = read.lines.iter().find(of_line);
    let found = found.unwrap_or_else(|| panic!("{line}: no verdict"));
    let detail = found.verdict.detail().to_owned();
    (found.verdict.word().to_owned(), detail)
}

#[test]
fn lines_that_public_files_have_get_the_verdict_that_fits_them() {
    let mut names = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for group in include_str!("tests.txt").split("\n[").skip(1) {
        let (expected, lines) = group.split_once("]\n").unwrap();
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let (word, detail) = verdict(line);
            if word != expected {
                wrong.push(format!("{expected}: {line}: {word}: {detail}"));
            }
            names.insert(line.split([' ', '=']).next().unwrap());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(names.len() > 190, "{}", names.len());
}

/// Names of one option, by the variable of uWSGI 2.0.31 that they set, each with a value.
const ALIASES: &[(&str, &[&str])] = &[
    ("x", &["mime-file", "mimefile"]),
    ("X-A", &["del-header", "rem-header"]),
    (
        "/x",
        &[
            "static-gzip-dir",
            "static-gzip-prefix",
            "static-gzip-ext",
            "static-gzip-suffix",
        ],
    ),
    ("3", &["processes", "workers"]),
    (
        "3",
        &[
            "so-send-timeout",
            "so-write-timeout",
            "socket-send-timeout",
            "socket-write-timeout",
        ],
    ),
    ("a=1", &["set-ph", "set-placeholder"]),
    ("%%(uri)", &["log-format", "logformat"]),
    ("http", &["protocol", "socket-protocol"]),
    ("uwsgi", &["protocol", "socket-protocol"]),
    (":9191", &["stats", "stats-server"]),
    (":8080", &["http", "httprouter", "http-socket"]),
    ("a", &["import", "py-import", "pyimport", "python-import"]),
    (
        "a",
        &[
            "shared-import",
            "shared-py-import",
            "shared-pyimport",
            "shared-python-import",
        ],
    ),
    (
        "1",
        &[
            "py-auto-reload",
            "py-autoreload",
            "python-auto-reload",
            "python-autoreload",
        ],
    ),
    ("a.py", &["file", "wsgi-file"]),
    ("/venv", &["home", "pyhome", "venv", "virtualenv"]),
    ("site", &["module", "wsgi"]),
    ("lib", &["pp", "pythonpath", "python-path"]),
    ("660", &["chmod", "chmod-socket"]),
    ("/srv/x", &["check-static", "static-check"]),
    ("/x/.* 60", &["static-expires", "static-expires-mtime"]),
    ("x", &["logto", "logto2"]),
    ("x", &["daemonize", "daemonize2"]),
    ("file:x", &["req-logger", "logger-req"]),
    (
        "/run/pid",
        &["pidfile", "pidfile2", "safe-pidfile", "safe-pidfile2"],
    ),
    ("1000", &["uid", "immediate-uid"]),
    ("1000", &["gid", "immediate-gid"]),
    ("0 * * * * x", &["cron", "unique-cron"]),
    ("4", &["offload-threads", "offload-thread"]),
    ("1", &["log-date", "logdate"]),
    ("1", &["wsgi-accept-buffer", "wsgi-accept-buffers"]),
    ("a b", &["plugin", "plugins", "need-plugin", "need-plugins"]),
    (
        "python3,http",
        &["plugin", "plugins", "need-plugin", "need-plugins"],
    ),
];

#[test]
fn all_names_of_an_option_mean_the_same() {
    for (value, names) in ALIASES {
        let of = |name: &str| verdict(&format!("{name} = {value}"));
        let first = of(names[0]);
        for name in *names {
            assert_eq!(of(name), first, "{name} = {value}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_of_any_form_is_read_without_a_panic(
        form in 0..4usize,
        text in "(\\PC|\n){0,80}|(uwsgi|module|=|:|\\[|\\]|<|>|/|\\{|\\}|\"|%\\(|\\$\\(|@\\(|\\)|if-env|for|endif|ini|\n| |a|1){0,60}"
    ) {
        let form = [Form::Ini, Form::Yaml, Form::Json, Form::Xml][form];
        let sources = Sources {
            variables: true,
            files: vec![("x".to_owned(), form)],
            ..Sources::default()
        };
        let read = reading(&[("x", &text)], &[("uwsgi", "1")], &sources);
        let _ = read.exit_code();
    }

    #[test]
    fn what_follows_the_sections_head_is_read_to_an_end(text in "((module|processes|cheaper|a|for|if-env|endif|ini|env|mount|static-map)( = )?(%\\(a\\)|\\$\\(a\\)|:uwsgi|[0-9a-z/=]{0,6})\n){0,20}") {
        let read = of_ini(&format!("[uwsgi]\n{text}"), &[("a", "%(a)$(a)")]);
        let written = crate::config::foreign::equivalent::file(&read.layer, false);
        let (_, mistake) = crate::config::file::layer(Path::new("x"), &written);
        prop_assert!(mistake.is_none(), "{written}: {mistake:?}");
    }
}

/// Values that files have, for one option or another.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "true",
    "-1",
    "60",
    "99999999999",
    "99999999999999999999",
    "5M",
    "/tmp",
    "/tmp/gone",
    "gone",
    "/=/tmp",
    "/a=/tmp",
    "/a=/tmp/gone",
    "/a=hello:app",
    "/=hello.py",
    "hello.py",
    "127.0.0.1:8000",
    ":0",
    "web:80",
    "127.0.0.1:9,a.crt,a.key",
    "unix:/tmp/s",
    "/tmp/a.sock",
    "A=b",
    "X-A: b c",
    "/tmp 3600",
    "text/html 600",
    "^/a 60",
    "^/a/ addheader:A: b",
    "^/(a|b)$ donotlog:",
    "^/c redirect:/d",
    "^/c/(.*) redirect-permanent:/d/$1",
    "^/e$ break:403 Forbidden",
    "a.test donotlog:",
    "*",
    "-1 -1 -1 -1 -1 echo x",
    "5 * * * * true",
    "60 echo/",
    "/",
    "www-data",
    "666",
    "%(method) %(uri) %(status)",
    "[%(ltime)] %(x) %(size)",
    "/tmp/404.html",
    "file:/tmp/l",
    "exec:true",
    "http",
    "a b",
];

/// Names of the application and its directories: the start says that something is not there.
const OF_THE_APPLICATION: &[&str] = &[
    "module",
    "wsgi",
    "wsgi-file",
    "file",
    "callable",
    "home",
    "virtualenv",
    "venv",
    "pyhome",
    "chdir",
];

#[test]
fn a_line_without_a_fatal_verdict_does_not_end_the_start() {
    let table = include_str!("options.txt");
    let honoured = table
        .split("\n[")
        .filter(|group| group.starts_with("honoured]"));
    let lines = honoured.flat_map(|group| group.lines().skip(1));
    let names = lines.flat_map(str::split_whitespace);
    let names = names.map(|name| name.split(['.', '?', '=']).next().unwrap_or_default());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hello.py"), "").unwrap();
    let host = HostFacts {
        current_dir: dir.path().to_owned(),
        ..HostFacts::of_this_process()
    };
    let sources = Sources {
        files: vec![("uwsgi.ini".to_owned(), Form::Ini)],
        ..Sources::default()
    };
    let mut found = Vec::new();
    let names = names.chain(["reload-on-as", "chdir2"]);
    for name in names.filter(|name| !OF_THE_APPLICATION.contains(name)) {
        for value in VALUES {
            let text = format!("[uwsgi]\nmodule = hello:app\n{name} = {value}\n");
            let read = reading(&[("uwsgi.ini", &text), ("hello.py", "")], &[], &sources);
            if read.lines.iter().any(|line| line.verdict.is_fatal()) {
                continue;
            }
            if let Err(problem) = crate::config::resolve::resolve(&[read.layer], None, &host) {
                found.push(format!("{name} = {value}: {problem}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn names_of_log_files_need_no_program() {
    let date = "@(exec://date +%%Y)";
    let check = |line: &str, code: u8| {
        let read = of_ini(&format!("[uwsgi]\nmodule = a:b\n{line}\n"), &[]);
        assert_eq!(read.exit_code(), code, "{line}");
    };
    check(&format!("logto = /var/log/uwsgi-{date}.log"), 0);
    check(&format!("daemonize = /var/log/{date}"), 0);
    check(&format!("chdir = /srv/{date}"), 2);
}
