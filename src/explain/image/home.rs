//! Settings of files of an image, with the image's paths in the place of this machine's.
//!
//! Readers find `%d` of uWSGI, `__file__` of gunicorn and the files of hooks where the project lies now; in the
//! image they lie where `COPY` puts them.

use std::path::Path;

use super::covering;
use super::placement::Placement;
use crate::config::foreign::Reading;
use crate::config::native;
use crate::explain::readers::Context;
use crate::explain::subject::Subject;

/// Where images have pyserve.
const PYSERVE: &str = "/usr/local/bin/pyserve";

/// Changes the paths in what a file of this name says, if an image is made of its directory.
pub fn bring(name: &str, reading: &mut Reading, all: &[Subject], around: &Context<'_>) {
    let Some(placement) = covering(name, all, around) else {
        return;
    };
    let directory = around.current_dir.join(native::path(placement.directory()));
    let plain: std::path::PathBuf = directory.components().collect();
    let machine = native::text(plain.as_os_str());
    let own = std::env::current_exe().map(|path| native::text(path.as_os_str()));
    let change = |value: &str| {
        if own.as_ref().is_ok_and(|own| own == value) {
            return PYSERVE.to_owned();
        }
        match is_interpreter(value) {
            true => "python3".to_owned(),
            false => placed(value, &machine, &placement),
        }
    };
    reading.layer.change_values(&change);
    for socket in &mut reading.layer.sockets {
        *socket = placed(socket, &machine, &placement);
    }
    for line in &mut reading.lines {
        let verdict = line.verdict.clone();
        line.verdict = verdict.map(|text| placed(text, &machine, &placement));
    }
}

/// True for an interpreter of this machine.
fn is_interpreter(value: &str) -> bool {
    let base = value.rsplit('/').next().unwrap_or(value);
    value.starts_with('/') && base.starts_with("python") && Path::new(value).exists()
}

/// The text with the image's paths for those below this directory of this machine.
fn placed(text: &str, machine: &str, placement: &Placement) -> String {
    if machine.len() < 2 {
        return text.to_owned();
    }
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(machine) {
        result.push_str(&rest[..at]);
        let behind = &rest[at + machine.len()..];
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ')' | ']' | ':');
        let path = &behind[..behind.find(is_end).unwrap_or(behind.len())];
        let is_below = path.is_empty() || path.starts_with('/');
        let inside = path.trim_matches('/');
        let place = match inside {
            "" => placement.whole(),
            inside => placement.path_of(&format!("{}{inside}", placement.directory())),
        };
        match place.filter(|_| is_below) {
            Some(place) => result.push_str(&place),
            None => result.push_str(&rest[at..at + machine.len() + path.len()]),
        }
        rest = &behind[path.len()..];
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_image() {
        let text = "FROM python:3.12\nWORKDIR /app\nCOPY . .\nCOPY conf /etc/conf/\n";
        let placement = Placement::of("x/Dockerfile", text, &|_| false);
        let check = |text: &str, expected: &str| {
            assert_eq!(placed(text, "/home/me/x", &placement), expected, "{text}");
        };
        check("/home/me/x/gunicorn.conf.py", "/app/gunicorn.conf.py");
        check(
            "chdir = \"/home/me/x/\", as it is",
            "chdir = \"/app\", as it is",
        );
        check("/home/me/x//lib:/home/me/x", "/app/lib:/app");
        check("/home/me/x/conf/a.ini", "/etc/conf/a.ini");
        check("/home/me/xy/a", "/home/me/xy/a");
    }
}
