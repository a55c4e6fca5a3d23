//! Readings of outcomes that no interpreter has made.

use std::path::Path;

use proptest::prelude::*;

use super::evaluation::{Evaluated, Statement};
use super::settings;
use super::value::Value;
use super::{Sources, read};
use crate::config::foreign::class::Class;
use crate::config::foreign::surroundings::FileKind;
use crate::config::foreign::{Files, Reading, Surroundings};
use crate::config::{Environment, HostFacts};

/// The reading of a file with this text and outcome, and of these sources.
fn reading(
    text: &str,
    outcome: &Result<Evaluated, String>,
    variables: &[(&str, &str)],
    sources: &Sources,
) -> Reading {
    let environment: Environment = variables.iter().copied().collect();
    let kind = FileKind {
        is_link: false,
        is_file: true,
        is_dir: false,
        inode: 17,
    };
    let files = Files {
        read: &|_, _| Ok(text.as_bytes().to_vec()),
        kind: &|_| Some(kind),
        real: &|path| Some(path.to_owned()),
        stand_in: &|_| None,
    };
    let around = Surroundings {
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
    };
    read(sources, &around, &|_| outcome.clone())
}

/// The outcome of a file whose line N sets the Nth of these settings.
fn outcome(settings: &[(&str, Value)]) -> Result<Evaluated, String> {
    let statements = settings
        .iter()
        .enumerate()
        .map(|(at, (name, _))| Statement {
            line: at + 1,
            end: at + 1,
            kind: "Assign".to_owned(),
            names: vec![(*name).to_owned()],
            ran: at as u64 + 1,
        });
    let values = settings.iter();
    Ok(Evaluated {
        file: "gunicorn.conf.py".to_owned(),
        statements: statements.collect(),
        settings: values
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        ..Evaluated::default()
    })
}

fn value(reading: &Reading, name: &str) -> String {
    let entry = reading.layer.entry(name);
    entry.map_or("none".to_owned(), |entry| {
        format!("{} from {}", entry.values.join(" "), entry.origin)
    })
}

fn words(line: &str) -> Option<Vec<String>> {
    Some(line.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn the_command_line_overrides_the_variable_and_that_the_file() {
    let text = "workers = 2\nthreads = 2\nbind = [':1', ':2']\nraw_env = ['A=file']\n";
    let list = |texts: &[&str]| {
        let texts = texts.iter().map(|text| Value::Text((*text).to_owned()));
        Value::List(texts.collect())
    };
    let file = outcome(&[
        ("workers", Value::Int(2)),
        ("threads", Value::Int(2)),
        ("bind", list(&[":1", ":2"])),
        ("raw_env", list(&["A=file"])),
    ]);
    let variables = [
        (
            "GUNICORN_CMD_ARGS",
            "--threads 3 --bind :3 -b :4 --timeout=9",
        ),
        ("WEB_CONCURRENCY", "7"),
    ];
    let sources = Sources {
        command_line: words("site:app --bind :5 -w 5"),
        file: None,
    };
    let read = reading(text, &file, &variables, &sources);
    assert_eq!(value(&read, "workers"), "5 from command line");
    assert_eq!(value(&read, "threads"), "3 from GUNICORN_CMD_ARGS");
    assert_eq!(value(&read, "bind"), "0.0.0.0:5 from command line");
    assert_eq!(value(&read, "env"), "A=file from gunicorn.conf.py:4");
    assert_eq!(value(&read, "app"), "site:app from command line");
    // Without a command line the variable and the file count.
    let sources = Sources {
        command_line: None,
        file: Some("gunicorn.conf.py".to_owned()),
    };
    let read = reading(text, &file, &variables, &sources);
    assert_eq!(value(&read, "workers"), "2 from gunicorn.conf.py:1");
    assert_eq!(
        value(&read, "bind"),
        "0.0.0.0:3 0.0.0.0:4 from GUNICORN_CMD_ARGS"
    );
    assert!(read.mistake().is_none(), "{:?}", read.mistake());
}

#[test]
fn web_concurrency_is_the_number_of_workers_where_no_line_sets_it() {
    let sources = Sources {
        command_line: words("site:app"),
        file: None,
    };
    let empty = outcome(&[]);
    let read = reading("", &empty, &[("WEB_CONCURRENCY", "7")], &sources);
    assert_eq!(value(&read, "workers"), "none");
    let read = reading("", &empty, &[], &sources);
    assert_eq!(value(&read, "workers"), "1 from default of gunicorn");
}

#[test]
fn a_file_that_cannot_be_evaluated_ends_the_start() {
    let sources = Sources {
        command_line: None,
        file: Some("gunicorn.conf.py".to_owned()),
    };
    let outcome = Err("its evaluation took longer than 20 s".to_owned());
    let mistake = reading("", &outcome, &[], &sources).mistake().unwrap();
    assert!(
        mistake
            .to_string()
            .starts_with("gunicorn.conf.py: its evaluation took"),
        "{mistake}"
    );
}

#[test]
fn every_proxy_is_never_trusted() {
    for variables in [&[][..], &[("FORWARDED_ALLOW_IPS", "*")]] {
        let sources = Sources {
            command_line: words(match variables.is_empty() {
                true => "site:app --forwarded-allow-ips=*",
                false => "site:app",
            }),
            file: None,
        };
        let read = reading("", &outcome(&[]), variables, &sources);
        let entry = read.layer.entry("trust").unwrap();
        let is_any = |network: &String| network.starts_with("0.0.0.0") || network == "*";
        assert!(!entry.values.iter().any(is_any), "{:?}", entry.values);
        assert!(entry.values.contains(&"10.0.0.0/8".to_owned()));
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        "\\PC{0,12}".prop_map(Value::Text),
        "[a-z:./*0-9=-]{0,12}".prop_map(Value::Text),
        ("[a-z]{1,5}", any::<Option<usize>>())
            .prop_map(|(name, count)| Value::Callable(name, count)),
        "[a-z.]{1,9}".prop_map(Value::Class),
        "[a-z]{1,9}".prop_map(Value::Other),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec(("\\PC{0,5}", inner), 0..4).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn any_values_of_any_settings_are_read(
        values in prop::collection::vec((0_usize..120, any_value()), 0..8),
        text in "\\PC{0,60}",
        line in "\\PC{0,40}",
    ) {
        let names: Vec<_> = super::settings::all().map(|setting| setting.name).collect();
        let named: Vec<_> = values.iter().map(|(at, value)| (names[*at], value.clone())).collect();
        let sources = Sources { command_line: words(&line), file: Some("x.py".to_owned()) };
        let read = reading(&text, &outcome(&named), &[("GUNICORN_CMD_ARGS", &text)], &sources);
        // Each of them has a verdict.
        let decided = |line: usize| read.lines.iter().any(|one| one.place.line == line);
        for line in 1..=named.len() {
            prop_assert!(decided(line), "{named:?}: {:?}", read.lines);
        }
        let _ = crate::config::foreign::equivalent::file(&read.layer, true);
    }

    #[test]
    fn any_json_is_an_outcome_or_none(text in "[\\[\\]{}\",:a-z0-9]{0,60}") {
        if let Ok(json) = serde_json::from_str(&text) {
            let _ = Value::of_json(&json);
        }
    }
}

/// Values of all kinds, some of them beyond what there can be.
fn values() -> Vec<Value> {
    let texts = [
        "",
        "0",
        "60",
        "/tmp",
        "/tmp/gone",
        "web:80",
        "[::1]:80",
        ":99999",
        "unix:",
        "unix:/tmp/a/",
        "unix:/tmp/s",
        "fd://3",
        "localhost",
        "10.0.0.0/8,x",
        "*",
        "auto",
        "a=b",
        "info",
        "-",
        "%(h)s %(q)s",
        "a\nb",
        "a\0b",
    ];
    let numbers = [0, 1, 5, 1025, 1_000_000_000_000, i64::MAX];
    let text = |text: &&str| Value::Text((*text).to_owned());
    let lists = texts.iter().map(|item| Value::List(vec![text(item)]));
    let map = Value::Map(vec![("X-A".to_owned(), Value::Text("b".to_owned()))]);
    let others = [Value::None, Value::Bool(true), Value::Bool(false), map];
    let all = texts.iter().map(text).chain(lists).chain(others);
    all.chain(numbers.map(Value::Int)).collect()
}

/// Names of files and directories: the start says that one is not there.
const OF_FILES: &[&str] = &[
    "wsgi_app",
    "chdir",
    "paste",
    "certfile",
    "ca_certs",
    "config",
    "tmp_upload_dir",
];

#[test]
fn a_line_without_a_fatal_verdict_does_not_end_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hello.py"), "").unwrap();
    let host = HostFacts {
        current_dir: dir.path().to_owned(),
        ..HostFacts::of_this_process()
    };
    let sources = Sources {
        command_line: None,
        file: Some("gunicorn.conf.py".to_owned()),
    };
    let mut found = Vec::new();
    let honoured = settings::all().filter(|setting| setting.class == Class::Honoured);
    for name in honoured.map(|setting| setting.name) {
        if OF_FILES.contains(&name) {
            continue;
        }
        for value in values() {
            let app = Value::Text("hello:app".to_owned());
            let outcome = outcome(&[("wsgi_app", app), (name, value.clone())]);
            let read = reading("a\nb\n", &outcome, &[], &sources);
            if read.lines.iter().any(|line| line.verdict.is_fatal()) {
                continue;
            }
            if let Err(problem) = crate::config::resolve::resolve(&[read.layer], None, &host) {
                found.push(format!("{name} = {value:?}: {problem}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn times_and_numbers_beyond_the_largest_are_cut_with_a_note_or_refused() {
    let sources = Sources {
        command_line: None,
        file: Some("gunicorn.conf.py".to_owned()),
    };
    let read = |name: &str, number: i64| {
        let outcome = outcome(&[(name, Value::Int(number))]);
        reading("a\n", &outcome, &[], &sources)
    };
    let year = read("timeout", 1_000_000_000_000);
    assert!(value(&year, "request_timeout").starts_with("31536000 "));
    let detail = year.lines[0].verdict.detail();
    assert!(
        detail.contains("a year, which is the longest time"),
        "{detail}"
    );
    let most = read("max_requests", i64::MAX);
    assert!(value(&most, "max_requests").starts_with("4294967295 "));
    for name in ["workers", "threads"] {
        assert!(read(name, 1025).lines[0].verdict.is_fatal(), "{name}");
    }
}
