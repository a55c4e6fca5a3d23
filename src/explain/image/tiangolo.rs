//! Images built on `tiangolo/uwsgi-nginx-flask` and its relatives, which start nginx and uWSGI by
//! themselves: what their variables and files become.

use std::collections::BTreeMap;

use super::commands::Conversion;
use super::instructions::Instruction;
use crate::config::foreign::Verdict;
use crate::config::layers::{Layer, SettingOrigin};
use crate::config::settings;

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

/// The file of nginx that takes the place of the one that the images generate.
const SITE: &str = "/app/nginx.conf";
/// The options of uWSGI, unless UWSGI_INI names another file.
const OPTIONS: &str = "/app/uwsgi.ini";
/// The application without that file.
const APPLICATION: &str = "main:app";
/// The socket between their nginx and their uWSGI.
const SOCKET: &str = "/tmp/uwsgi.sock";
/// Files that nginx of the images includes beside the one that they generate.
const INCLUDED: &str = "/etc/nginx/conf.d/";

/// The verdict of an `ENV`; `has_options`: the command names a file of uWSGI.
pub fn of_variables(
    instruction: &Instruction<'_>,
    conversion: &Conversion<'_>,
    has_options: bool,
) -> (Verdict, Option<Vec<String>>) {
    let names: Vec<_> = variables(instruction)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let flags = names.iter().filter_map(|name| {
        let known = VARIABLES.iter().find(|(known, _)| known == name);
        known.map(|(_, flag)| *flag)
    });
    let has_site = has_site(conversion);
    let flags: Vec<_> = flags.filter(|flag| !has_site || *flag == "--ini").collect();
    let is_of_nginx = |name: &String| {
        let is_of_site = VARIABLES.iter().any(|(known, _)| known == name) || name == "STATIC_INDEX";
        name.starts_with("NGINX_") || has_site && is_of_site
    };
    let verdict = if !has_site && names.iter().any(|name| name == "STATIC_INDEX") {
        Verdict::Unsupported(
            "STATIC_INDEX: start pyserve with `--image yes`, which reads it".to_owned(),
        )
    } else if !flags.is_empty() {
        Verdict::Honoured(format!("{} of the command", flags.join(", ")))
    } else if names.iter().all(|name| name.starts_with("NGINX_")) {
        Verdict::NoEffect("it tunes nginx, which does not run".to_owned())
    } else if names.iter().all(is_of_nginx) {
        Verdict::NoEffect(format!("{SITE} is the site, in these images too"))
    } else if names.iter().any(|name| name.starts_with("UWSGI_")) && !has_options {
        Verdict::Unsupported(
            "pyserve reads it beside a file that UWSGI_INI or --ini names, and here is none: give --workers".to_owned(),
        )
    } else if names.iter().any(|name| name.starts_with("UWSGI_")) {
        Verdict::Read("pyserve reads it as uWSGI does, since --ini names a file".to_owned())
    } else {
        Verdict::Read("it stays".to_owned())
    };
    (verdict, None)
}

/// The variables among these names that the command of the image stands for, so that they mean nothing once it runs.
pub fn fixed_in_command<'n>(names: &[&'n str]) -> Vec<&'n str> {
    let is_fixed = |name: &&&str| {
        **name == "STATIC_INDEX" || VARIABLES.iter().any(|(known, _)| known == *name)
    };
    names.iter().filter(is_fixed).copied().collect()
}

/// True if the image has a file of nginx in the place of the generated one.
pub fn has_site(conversion: &Conversion<'_>) -> bool {
    conversion.has(SITE, |kind| kind.is_file)
}

/// The verdict of a file that nginx of the images would include, where the command cannot name it.
pub fn of_included(path: &str) -> Option<Verdict> {
    path.starts_with(INCLUDED).then(|| {
        Verdict::Unsupported(
            "nginx of the base image includes it beside the site that it generates: give pyserve one file of the whole site with --nginx".to_owned(),
        )
    })
}

/// The advice for files of the base image that are replaced or started.
pub const NOT_HERE: &str = "it is about files of the base image, which are not here: start pyserve with the same settings, and run the rest with --before-start";

/// True for a path at which the base image has files of its own.
pub fn is_own(path: &str) -> bool {
    let is_site = path.starts_with(INCLUDED);
    !is_site
        && ["/etc/uwsgi/", "/etc/supervisor", "/etc/nginx/"]
            .iter()
            .any(|start| path.starts_with(start))
        || matches!(path, "/entrypoint.sh" | "/start.sh")
}

/// True for a start through the scripts of the base image, beside others.
pub fn is_of_base(instruction: &Instruction<'_>) -> bool {
    let words = instruction.words();
    words.len() > 1
        && words
            .iter()
            .any(|word| matches!(&**word, "/entrypoint.sh" | "/start.sh"))
        || instruction.keyword == "ENTRYPOINT" && words.iter().any(|word| word == "/entrypoint.sh")
}

/// Lines for the parts of the base image beside its servers.
pub fn lines_behind_base(own: &[Instruction<'_>], conversion: &Conversion<'_>) -> Vec<String> {
    let mut lines = vec!["WORKDIR /app".to_owned()];
    let is_flask = own
        .first()
        .is_some_and(|from| from.arguments.contains("-flask"));
    if is_flask {
        lines.push("RUN pip install --no-cache-dir flask".to_owned());
    }
    let names_user = |one: &Instruction<'_>| {
        one.arguments.contains("nginx:nginx")
            || one.arguments.contains("chown nginx")
            || one.keyword == "USER" && one.arguments.starts_with("nginx")
    };
    if own.iter().any(names_user) || conversion.runs_as("nginx") {
        lines.push("RUN groupadd --system nginx && useradd --system --gid nginx nginx".to_owned());
    }
    let all = variables_of(own);
    let mut variables: Vec<_> =
        [("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUNBUFFERED", "1")].to_vec();
    if is_flask {
        variables.push(("PYTHONPATH", "/app"));
    }
    if has_options(&all, conversion) {
        variables.extend([("UWSGI_CHEAPER", "2"), ("UWSGI_PROCESSES", "16")]);
    }
    // The values of the base image.
    let missing = variables
        .iter()
        .filter(|(name, _)| !all.contains_key(*name));
    let pairs: Vec<_> = missing
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !pairs.is_empty() {
        lines.push(format!("ENV {}", pairs.join(" ")));
    }
    lines
}

fn variables_of(own: &[Instruction<'_>]) -> BTreeMap<String, String> {
    let all = own.iter().filter(|one| one.keyword == "ENV");
    all.flat_map(variables).collect()
}

/// True if the image has a file of uWSGI beside that of the base image, which names the application only.
fn has_options(all: &BTreeMap<String, String>, conversion: &Conversion<'_>) -> bool {
    let ini = all.get("UWSGI_INI").map_or(OPTIONS, String::as_str);
    all.contains_key("UWSGI_INI")
        || conversion.has(ini, |kind| kind.is_file)
        || conversion.names(ini)
}

/// The settings that a site of nginx meets in these images.
pub fn layer() -> Layer {
    let mut layer = Layer::default();
    layer.sockets.push(SOCKET.to_owned());
    if let Some(setting) = settings::named("app") {
        let origin = SettingOrigin::Foreign {
            place: "the base image".to_owned(),
            text: "main.py".to_owned(),
        };
        layer.insert(setting, vec![APPLICATION.to_owned()], origin);
    }
    layer
}

/// The words behind `pyserve` that do what the base image's start does.
pub fn command(own: &[Instruction<'_>], conversion: &Conversion<'_>) -> Vec<String> {
    let all = variables_of(own);
    let one = |name: &str, otherwise: &str| {
        all.get(name)
            .cloned()
            .unwrap_or_else(|| otherwise.to_owned())
    };
    let ini = one("UWSGI_INI", OPTIONS);
    // The base image has a file that names the application, and Debian's has none.
    let mut words = match has_options(&all, conversion) {
        true => vec!["--ini".to_owned(), ini],
        false => {
            let workers = "2..16".to_owned();
            vec![
                "--app".to_owned(),
                APPLICATION.to_owned(),
                "--workers".to_owned(),
                workers,
            ]
        }
    };
    match has_site(conversion) {
        true => words.extend(["--nginx".to_owned(), SITE.to_owned()]),
        false => words.extend(generated_site(&all, conversion)),
    }
    let prestart = one("PRE_START_PATH", "/app/prestart.sh");
    if conversion.has(&prestart, |kind| kind.is_file) || conversion.names(&prestart) {
        words.extend(["--prestart".to_owned(), prestart]);
    }
    words
}

/// The flags that say what the site says that the images generate.
fn generated_site(all: &BTreeMap<String, String>, conversion: &Conversion<'_>) -> Vec<String> {
    let one = |name: &str, otherwise: &str| {
        all.get(name)
            .cloned()
            .unwrap_or_else(|| otherwise.to_owned())
    };
    // 0 is no limit in both.
    let (port, upload) = (one("LISTEN_PORT", "80"), one("NGINX_MAX_UPLOAD", "0"));
    let (url, path) = (
        one("STATIC_URL", "/static"),
        one("STATIC_PATH", "/app/static"),
    );
    let mut words = vec![
        "--bind".to_owned(),
        format!("0.0.0.0:{port}"),
        "--max-body".to_owned(),
        upload,
        // uWSGI gets the path as nginx has it.
        "--normal-path".to_owned(),
        "true".to_owned(),
    ];
    if all.contains_key("STATIC_PATH") || conversion.has(&path, |kind| kind.is_dir) {
        words.extend(["--static".to_owned(), format!("{url}={path}")]);
    }
    words
}
