//! The settings of all files of one site together.
//!
//! A file of supervisord has those of its programs in it, so these are not explained a second time. One
//! file of nginx and one of the application behind it are read by one start, and have one
//! `pyserve.toml`.

use std::path::PathBuf;

use super::image::Explained;
use super::readers::{Context, Source};
use super::subject::{Kind, Subject};
use crate::config::foreign::found;
use crate::config::layers::Layer;
use crate::config::native;

/// Without the files that a file of supervisord, or another one that includes them, has explained.
pub fn without_parts(
    found: Vec<(Subject, Explained)>,
    context: &Context<'_>,
) -> Vec<(Subject, Explained)> {
    let mut parts = Vec::new();
    for (subject, explained) in found.iter().filter(|(subject, _)| is_supervisord(subject)) {
        let lines = explained.reading.lines.iter();
        let sources = lines.filter(|line| line.place.line > 0);
        for source in sources.map(|line| &*line.place.source) {
            if source != subject.name {
                parts.extend(real(source, context));
            }
        }
    }
    let is_part = |subject: &Subject| {
        let Kind::Settings(_, Source::File(name)) = &subject.kind else {
            return false;
        };
        !is_supervisord(subject) && real(name, context).is_some_and(|path| parts.contains(&path))
    };
    found
        .into_iter()
        .filter(|(subject, _)| !is_part(subject))
        .collect()
}

/// True for a file of supervisord.
pub fn is_supervisord(subject: &Subject) -> bool {
    matches!(&subject.kind, Kind::Settings(reader, _) if reader.flag == "--supervisord")
}

/// The file itself, or the one that stands for it.
fn real(name: &str, context: &Context<'_>) -> Option<PathBuf> {
    let path = context.current_dir.join(native::path(name));
    let path = (context.files.stand_in)(&path).unwrap_or(path);
    (context.files.real)(&path)
}

/// The settings of one file of nginx and one of the application behind it; `None` for anything else.
pub fn of(found: &[(Subject, Explained)]) -> Option<Layer> {
    let settings = found
        .iter()
        .filter_map(|(subject, explained)| match &subject.kind {
            Kind::Settings(reader, _) => Some((reader.flag, &explained.reading.layer)),
            Kind::Image(..) => None,
        });
    let settings: Vec<_> = settings.collect();
    let [one, other] = settings[..] else {
        return None;
    };
    let (proxy, application) = match (one.0, other.0) {
        ("--nginx", "--ini" | "--gunicorn") => (one.1, other.1),
        ("--ini" | "--gunicorn", "--nginx") => (other.1, one.1),
        _ => return None,
    };
    Some(found::together(proxy, application))
}
