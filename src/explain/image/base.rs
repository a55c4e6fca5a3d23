//! The base image of a Dockerfile: its Python, and its C library.

use crate::config::foreign::Verdict;

/// A known base image.
pub struct Base {
    pub verdict: Verdict,
    /// The image in its place.
    pub instead: Option<String>,
    /// True if the whole image is not needed.
    pub goes_away: bool,
}

/// Oldest CPython that pyserve runs.
const OLDEST: (u32, u32) = (3, 9);
/// The tag that is proposed for an older one.
const NEWER: &str = "3.13";

/// Part of the verdict about a base image with an older one.
const NEEDS: &str = "pyserve needs 3.9 or newer: FROM";

/// True for the verdict about a base image whose Python is too old.
pub fn is_too_old(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Unsupported(why) if why.contains(NEEDS))
}

/// The start of a tag, and the version of its CPython.
type Tag = (&'static str, (u32, u32));

/// CPython of distributions, by the name and the start of the tag.
const DISTRIBUTIONS: &[(&str, &[Tag])] = &[
    (
        "ubuntu",
        &[
            ("14.04", (3, 4)),
            ("trusty", (3, 4)),
            ("16.04", (3, 5)),
            ("xenial", (3, 5)),
            ("18.04", (3, 6)),
            ("bionic", (3, 6)),
            ("20.04", (3, 8)),
            ("focal", (3, 8)),
            ("22.04", (3, 10)),
            ("jammy", (3, 10)),
            ("24.04", (3, 12)),
            ("noble", (3, 12)),
        ],
    ),
    (
        "debian",
        &[
            ("8", (3, 4)),
            ("jessie", (3, 4)),
            ("9", (3, 5)),
            ("stretch", (3, 5)),
            ("10", (3, 7)),
            ("buster", (3, 7)),
            ("11", (3, 9)),
            ("bullseye", (3, 9)),
            ("12", (3, 11)),
            ("bookworm", (3, 11)),
            ("13", (3, 13)),
            ("trixie", (3, 13)),
        ],
    ),
    ("amazonlinux", &[("2", (3, 7)), ("2023", (3, 9))]),
    ("rockylinux", &[("8", (3, 6)), ("9", (3, 9))]),
    ("almalinux", &[("8", (3, 6)), ("9", (3, 9))]),
    ("centos", &[("6", (2, 6)), ("7", (3, 6)), ("8", (3, 6))]),
];

/// Images of nginx and its relatives.
const PROXIES: [&str; 5] = [
    "angie",
    "nginx",
    "nginx-proxy",
    "nginx-unprivileged",
    "openresty",
];

/// True if images of this base start nginx and uWSGI without a command of their own.
pub fn starts_itself(arguments: &str) -> bool {
    image_of(arguments).is_some_and(|(name, _)| is_tiangolo(&name))
}

fn is_tiangolo(name: &str) -> bool {
    name.contains("tiangolo/uwsgi-nginx")
}

/// The verdict about a stage that is built on another one of the file.
pub fn of_stage() -> Base {
    Base {
        verdict: Verdict::Read("it stays: a stage of this file".to_owned()),
        instead: None,
        goes_away: false,
    }
}

/// The verdict about an image of nginx into which a Dockerfile brings an application.
pub fn of_mixed(arguments: &str) -> Base {
    let stage: Vec<_> = arguments
        .split_whitespace()
        .skip_while(|word| word.starts_with("--"))
        .skip(1)
        .collect();
    let slim = format!("python:{NEWER}-slim");
    let instead = [&*slim].into_iter().chain(stage).collect::<Vec<_>>();
    Base {
        verdict: Verdict::Unsupported(format!(
            "an image of nginx with the application in it: FROM {slim}, and look at each line that follows"
        )),
        instead: Some(instead.join(" ")),
        goes_away: false,
    }
}

/// Name and tag of `FROM [--platform=x] name:tag [AS stage]`.
fn image_of(arguments: &str) -> Option<(String, String)> {
    let mut words = arguments.split_whitespace();
    let image = words.find(|word| !word.starts_with("--"))?;
    let image = image.split('@').next().unwrap_or(image);
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    };
    Some((name.to_owned(), tag.to_owned()))
}

/// Looks at a base image; `is_final`: that of the stage that runs.
pub fn of(arguments: &str, is_final: bool) -> Base {
    let stays = |verdict: Verdict| Base {
        verdict,
        instead: None,
        goes_away: false,
    };
    if !is_final {
        return stays(Verdict::Read("a stage of the build stays".to_owned()));
    }
    let Some((name, tag)) = image_of(arguments) else {
        return stays(Verdict::Wrong("no image".to_owned()));
    };
    let base = name.rsplit('/').next().unwrap_or(&name);
    let behind: Vec<_> = arguments
        .split_whitespace()
        .skip_while(|word| word.starts_with("--"))
        .skip(1)
        .collect();
    let stage = match behind.is_empty() {
        true => String::new(),
        false => format!(" {}", behind.join(" ")),
    };
    let proposed = |instead: &str, verdict: Verdict| Base {
        verdict,
        instead: Some(format!("{instead}{stage}")),
        goes_away: false,
    };
    let slim = format!("python:{NEWER}-slim");
    if PROXIES.contains(&base) {
        return Base {
            verdict: Verdict::NoEffect(
                "not needed: an image of nginx alone; pyserve in the image of the application does its work"
                    .to_owned(),
            ),
            instead: None,
            goes_away: true,
        };
    }
    if tag.contains("alpine") || base == "alpine" {
        let why = format!("pyserve is built for glibc, Alpine has musl: FROM {slim}");
        return proposed(&slim, Verdict::Unsupported(why));
    }
    if is_tiangolo(&name) {
        return of_tiangolo(&tag, proposed);
    }
    if let Some(why) = unfit(&name) {
        let why = format!("{why}: FROM {slim}, and a CMD that starts pyserve");
        return proposed(&slim, Verdict::Unsupported(why));
    }
    let found = python_of(base, &tag);
    match found {
        Some(found) if found < OLDEST => {
            let instead = match (base, tag.contains("slim")) {
                ("python", false) => format!("python:{NEWER}"),
                _ => slim,
            };
            proposed(&instead, too_old(found, &instead))
        }
        Some((major, minor)) => stays(Verdict::AlreadySo(format!(
            "CPython {major}.{minor}: pyserve needs 3.9 or newer"
        ))),
        None => stays(Verdict::Read(
            "it stays; it needs glibc and CPython 3.9 or newer".to_owned(),
        )),
    }
}

/// The reason for which pyserve does not run in an image of this name, if there is one.
fn unfit(name: &str) -> Option<&'static str> {
    let base = name.rsplit('/').next().unwrap_or(name);
    if name.contains("tiangolo/meinheld") || name.contains("tiangolo/uvicorn") {
        return Some(
            "the image starts gunicorn in its own way, with variables and files of its own",
        );
    }
    base.contains("pypy")
        .then_some("pyserve runs CPython, and PyPy is another one")
}

/// The version of CPython that an image has, by its last name and its tag.
fn python_of(base: &str, tag: &str) -> Option<(u32, u32)> {
    match base {
        "python" => version(tag),
        _ if base.contains("python") => tag.strip_prefix("python").and_then(version),
        _ => {
            let known = DISTRIBUTIONS.iter().find(|(name, _)| *name == base);
            let tags = known.into_iter().flat_map(|(_, tags)| tags.iter());
            let mut tags = tags.filter(|(start, _)| {
                tag.strip_prefix(start)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
            });
            tags.next().map(|(_, version)| *version)
        }
    }
}

fn of_tiangolo(tag: &str, proposed: impl Fn(&str, Verdict) -> Base) -> Base {
    let found = tag.strip_prefix("python").and_then(version);
    match found {
        Some(found) if found < OLDEST => {
            let slim = format!("python:{NEWER}-slim");
            proposed(&slim, too_old(found, &slim))
        }
        found => {
            let version = found.map_or(NEWER.to_owned(), |(major, minor)| {
                format!("{major}.{minor}")
            });
            let slim = format!("python:{version}-slim");
            // The images work in /app, on Python's path.
            let text =
                format!("FROM {slim}: nginx, uWSGI and supervisord of the image are not needed");
            proposed(&slim, Verdict::Honoured(text))
        }
    }
}

fn too_old((major, minor): (u32, u32), instead: &str) -> Verdict {
    Verdict::Unsupported(format!(
        "CPython {major}.{minor}: {NEEDS} {instead}, and test the application with it first"
    ))
}

/// `3.11` of `3.11.4-slim-bookworm`; `3` alone and `latest` are current.
fn version(tag: &str) -> Option<(u32, u32)> {
    let number = tag.split('-').next().unwrap_or(tag);
    let mut parts = number.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        (Some(Ok(2)), None) => Some((2, 7)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_of_a_base_image_is_known_by_its_tag() {
        let check = |arguments: &str, word: &str, instead: Option<&str>| {
            let base = of(arguments, true);
            assert_eq!(base.verdict.word(), word, "{arguments}");
            assert_eq!(base.instead.as_deref(), instead, "{arguments}");
        };
        check("python:3.11-slim-bookworm", "already_so", None);
        check("python:3.6", "unsupported", Some("python:3.13"));
        check(
            "python:3.8.10-slim AS run",
            "unsupported",
            Some("python:3.13-slim AS run"),
        );
        check(
            "--platform=linux/amd64 python:2.7",
            "unsupported",
            Some("python:3.13"),
        );
        check("python:2", "unsupported", Some("python:3.13"));
        check(
            "python:3.12-alpine",
            "unsupported",
            Some("python:3.13-slim"),
        );
        check("docker.io/library/python:3.9", "already_so", None);
        check("ubuntu:18.04", "unsupported", Some("python:3.13-slim"));
        check("ubuntu:24.04", "already_so", None);
        check("debian:bookworm-slim", "already_so", None);
        check("centos:7.9.2009", "unsupported", Some("python:3.13-slim"));
        check(
            "tiangolo/uwsgi-nginx-flask:python3.11",
            "honoured",
            Some("python:3.11-slim"),
        );
        check(
            "tiangolo/uwsgi-nginx:python3.8",
            "unsupported",
            Some("python:3.13-slim"),
        );
        check("registry:5000/own", "honoured", None);
        check("pypy:3.9", "unsupported", Some("python:3.13-slim"));
        check("rockylinux:8", "unsupported", Some("python:3.13-slim"));
        check("amazonlinux:2", "unsupported", Some("python:3.13-slim"));
        check(
            "nikolaik/python-nodejs:python3.8-nodejs14",
            "unsupported",
            Some("python:3.13-slim"),
        );
        check(
            "tiangolo/meinheld-gunicorn-flask:python3.9",
            "unsupported",
            Some("python:3.13-slim"),
        );
        check("nginx:1.25", "no_effect", None);
    }
}
