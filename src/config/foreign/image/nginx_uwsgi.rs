//! Images of the family of tiangolo/uwsgi-nginx-flask: nginx before uWSGI, configured by variables, and by
//! `main.py`, `uwsgi.ini` and `nginx.conf` in the directory of the application.

use std::num::NonZeroU16;

use super::{NO_PORT, Reader, procfile};
use crate::config::discovery;
use crate::config::foreign::Verdict;
use crate::config::foreign::nginx::size;

/// The socket between nginx and uWSGI of these images.
const SOCKET: &str = "/tmp/uwsgi.sock";
/// Variables that tune nginx.
const TUNING: [&str; 3] = [
    "NGINX_WORKER_PROCESSES",
    "NGINX_WORKER_CONNECTIONS",
    "NGINX_WORKER_OPEN_FILES",
];
/// Processes of uWSGI in these images: at least and at most.
const PROCESSES: (u32, u32) = (2, 16);

pub(super) fn decide(reader: &mut Reader<'_>) {
    let has_site = proxy(reader);
    options(reader);
    processes(reader);
    address(reader, has_site);
    uploads(reader, has_site);
    files(reader, has_site);
    for name in TUNING {
        if let Some(value) = reader.variable(name) {
            let why = "it tunes nginx, which does not run".to_owned();
            reader.say(name, &format!("{name}={value}"), Verdict::NoEffect(why));
        }
    }
}

/// Names `nginx.conf`; true if it is there, so that the variables for a generated one mean nothing.
fn proxy(reader: &mut Reader<'_>) -> bool {
    reader.draft.layer.sockets.push(SOCKET.to_owned());
    if reader.is_set("nginx") {
        return true;
    }
    let is_there = reader.is_file("nginx.conf");
    if is_there {
        reader.set("nginx.conf", "nginx.conf", "nginx", "nginx.conf".to_owned());
    }
    is_there
}

/// Names `uwsgi.ini`.
fn options(reader: &mut Reader<'_>) {
    let dir = reader.variable("UWSGI_INI_DIR");
    if let Some(dir) = dir.filter(|dir| !reader.has_command_line && !has_ini(reader, dir)) {
        let why = format!("there is no {dir}/uwsgi.ini");
        let text = format!("UWSGI_INI_DIR={dir}");
        reader.say("UWSGI_INI_DIR", &text, Verdict::Noted(why));
    }
    if !is_named(reader) && reader.is_file("uwsgi.ini") {
        reader.set("uwsgi.ini", "uwsgi.ini", "ini", "uwsgi.ini".to_owned());
    }
}

/// Names the application in `main.py`, where nothing else is named.
pub(super) fn main_file(reader: &mut Reader<'_>) {
    let is_named = is_named(reader)
        || reader.found.uwsgi.is_some()
        || reader
            .found
            .gunicorn
            .as_ref()
            .is_some_and(|words| !words.is_empty());
    let main = reader.around.current_dir.join("main.py");
    if !is_named && !reader.is_file("manage.py") && discovery::binds(&main, "app") {
        reader.set("main.py", "main.py", "app", "main:app".to_owned());
    }
}

/// True if the settings, a command line or uWSGI's variables name an application or a file that does.
fn is_named(reader: &Reader<'_>) -> bool {
    if reader.has_command_line {
        return true;
    }
    procfile::SETTINGS_OF.iter().any(|name| reader.is_set(name))
        || reader.variable("UWSGI_INI").is_some()
        || reader
            .variable("UWSGI_INI_DIR")
            .is_some_and(|dir| has_ini(reader, &dir))
}

/// True if a directory that `UWSGI_INI_DIR` names has the file.
fn has_ini(reader: &Reader<'_>, dir: &str) -> bool {
    reader.is_file(&format!("{dir}/uwsgi.ini"))
}

/// uWSGI's options in the environment: the images set the one that is missing.
fn processes(reader: &mut Reader<'_>) {
    let most = reader.variable("UWSGI_PROCESSES");
    let least = reader.variable("UWSGI_CHEAPER");
    let number = |text: &Option<String>| text.as_ref()?.trim().parse::<u32>().ok();
    let (fewest, usual) = PROCESSES;
    let missing = match (&most, &least) {
        (None, Some(_)) => Some(("UWSGI_PROCESSES", usual)),
        (Some(_), None) if number(&most).is_some_and(|most| most > fewest) => {
            Some(("UWSGI_CHEAPER", fewest))
        }
        _ => None,
    };
    let added = missing.map(|(name, value)| (name.to_owned(), value.to_string()));
    reader.found.variables.extend(added);
    // uWSGI starts one process where neither variables nor a file say how many.
    reader.found.sizes_workers = true;
}

fn address(reader: &mut Reader<'_>, has_site: bool) {
    let Some(port) = reader.variable("LISTEN_PORT") else {
        return;
    };
    let text = format!("LISTEN_PORT={port}");
    match (has_site, port.parse::<NonZeroU16>()) {
        (true, _) => reader.say("LISTEN_PORT", &text, of_site("address")),
        (false, Ok(number)) => {
            reader.set("LISTEN_PORT", &text, "bind", format!("0.0.0.0:{number}"));
        }
        (false, Err(_)) => {
            // nginx: "invalid port in "0" of the "listen" directive".
            let why = format!("not {NO_PORT} (give one, as in LISTEN_PORT=8080)");
            reader.say("LISTEN_PORT", &text, Verdict::Wrong(why));
        }
    }
}

fn uploads(reader: &mut Reader<'_>, has_site: bool) {
    let Some(most) = reader.variable("NGINX_MAX_UPLOAD") else {
        return;
    };
    let text = format!("NGINX_MAX_UPLOAD={most}");
    match (has_site, size(&most)) {
        (true, _) => reader.say("NGINX_MAX_UPLOAD", &text, of_site("limit")),
        (false, Some(bytes)) => reader.set("NGINX_MAX_UPLOAD", &text, "max_body", bytes),
        (false, None) => {
            let why = "not a size of nginx (give one, as in NGINX_MAX_UPLOAD=16m)".to_owned();
            reader.say("NGINX_MAX_UPLOAD", &text, Verdict::Wrong(why));
        }
    }
}

fn files(reader: &mut Reader<'_>, has_site: bool) {
    let given = ["STATIC_URL", "STATIC_PATH", "STATIC_INDEX"].map(|name| reader.variable(name));
    let names: Vec<_> = ["STATIC_URL", "STATIC_PATH", "STATIC_INDEX"]
        .into_iter()
        .zip(&given)
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .collect();
    let Some((first, _)) = names.first() else {
        return;
    };
    let text: Vec<_> = names
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let text = text.join(" ");
    if has_site {
        reader.say(first, &text, of_site("locations"));
        return;
    }
    let [url, path, index] = &given;
    let url = url.as_deref().unwrap_or("/static");
    let dir = match path {
        Some(path) => path.clone(),
        None => format!("{}/static", reader.around.current_dir.display()),
    };
    let dir = dir.trim_end_matches('/').to_owned();
    let prefix = format!("/{}", url.trim_matches('/'));
    if !reader.is_dir(&dir) {
        // nginx answers 404 there as well.
        let why = format!("there is no directory {dir} (make it, or set STATIC_PATH)");
        reader.say(first, &text, Verdict::Noted(why));
        return;
    }
    let location = [("prefix", prefix), ("static", dir.clone())];
    reader.location(first, &text, &location);
    if index.as_deref() == Some("1") {
        let page = format!("{dir}/index.html");
        let location = [("path", "/".to_owned()), ("file", page)];
        reader.location("STATIC_INDEX", "STATIC_INDEX=1", &location);
    }
}

fn of_site(what: &str) -> Verdict {
    Verdict::NoEffect(format!("nginx.conf has the {what}"))
}
