//! Images built on `tiangolo/uwsgi-nginx-flask` and its relatives, which start nginx and uWSGI by
//! themselves: what their variables and files become.

use std::collections::BTreeMap;

use super::commands::Conversion;
use super::instructions::Instruction;
use crate::config::foreign::Verdict;

/// Variables of the images, and what they become.
const VARIABLES: &[(&str, &str)] = &[
    ("LISTEN_PORT", "--bind"),
    ("STATIC_URL", "--static"),
    ("STATIC_PATH", "--static"),
    ("NGINX_MAX_UPLOAD", "--max-body"),
    ("UWSGI_INI", "--ini"),
];

/// Names and values of `ENV A=1 B=2` and `ENV A 1`.
fn variables(instruction: &Instruction<'_>) -> Vec<(String, String)> {
    let words = instruction.words();
    let pairs: Option<Vec<_>> = words.iter().map(|word| word.split_once('=')).collect();
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    match pairs {
        Some(pairs) => pairs.into_iter().map(owned).collect(),
        None => {
            let text = &instruction.arguments;
            let pair = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            vec![owned((pair.0, pair.1.trim()))]
        }
    }
}

/// The verdict of an `ENV`.
pub fn of_variables(instruction: &Instruction<'_>) -> (Verdict, Option<Vec<String>>) {
    let names: Vec<_> = variables(instruction)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let flags = names.iter().filter_map(|name| {
        let known = VARIABLES.iter().find(|(known, _)| known == name);
        known.map(|(_, flag)| *flag)
    });
    let flags: Vec<_> = flags.collect();
    let verdict = if names.iter().any(|name| name == "STATIC_INDEX") {
        Verdict::Unsupported(
            "STATIC_INDEX: start pyserve with `--image yes`, which reads it".to_owned(),
        )
    } else if !flags.is_empty() {
        Verdict::Honoured(format!("{} of the command", flags.join(", ")))
    } else if names.iter().all(|name| name.starts_with("NGINX_")) {
        Verdict::NoEffect("it tunes nginx, which does not run".to_owned())
    } else if names.iter().any(|name| name.starts_with("UWSGI_")) {
        Verdict::Read("pyserve reads it as uWSGI does, since --ini names a file".to_owned())
    } else {
        Verdict::Read("it stays".to_owned())
    };
    (verdict, None)
}

/// Lines for the parts of the base image beside its servers.
pub fn lines_behind_base(arguments: &str) -> Vec<String> {
    let mut lines = vec!["WORKDIR /app".to_owned()];
    if arguments.contains("-flask") {
        lines.push("RUN pip install --no-cache-dir flask".to_owned());
    }
    lines
}

/// The words behind `pyserve` that do what the base image's start does.
pub fn command(own: &[Instruction<'_>], conversion: &Conversion<'_>) -> Vec<String> {
    let all = own
        .iter()
        .filter(|one| one.keyword == "ENV")
        .flat_map(variables);
    let all: BTreeMap<String, String> = all.collect();
    let one = |name: &str, otherwise: &str| {
        all.get(name)
            .cloned()
            .unwrap_or_else(|| otherwise.to_owned())
    };
    let ini = one("UWSGI_INI", "/app/uwsgi.ini");
    let port = one("LISTEN_PORT", "80");
    // 0 is no limit in both.
    let upload = one("NGINX_MAX_UPLOAD", "0");
    let (url, path) = (
        one("STATIC_URL", "/static"),
        one("STATIC_PATH", "/app/static"),
    );
    let mut words = vec![
        "--ini".to_owned(),
        ini,
        "--bind".to_owned(),
        format!("0.0.0.0:{port}"),
        "--max-body".to_owned(),
        upload,
    ];
    let inside = path.trim_start_matches('/');
    if all.contains_key("STATIC_PATH") || conversion.has(inside, |kind| kind.is_dir) {
        words.extend(["--static".to_owned(), format!("{url}={path}")]);
    }
    if conversion.has("app/prestart.sh", |kind| kind.is_file) {
        words.extend(["--before-start".to_owned(), ". /app/prestart.sh".to_owned()]);
    }
    words
}
