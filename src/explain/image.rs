//! The files by which an image starts: `Dockerfile`, `Procfile`, entry scripts, Compose files.
//!
//! Each of their lines has a verdict, as the lines of settings have, and some a replacement. What a
//! command becomes is decided in [`commands`], for all four.

mod base;
pub mod commands;
mod compose;
mod dockerfile;
mod doubts;
pub mod home;
mod instructions;
mod packages;
mod placement;
mod procfile;
mod script;
mod server_files;
mod site;
mod tiangolo;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::base::is_too_old;

use self::commands::Conversion;
use self::placement::Placement;
use super::subject::{ImageFile, Kind, Subject};
use crate::config::foreign::surroundings::FileKind;
use crate::config::foreign::{Files, Line, Place, Reading, Verdict, secrets};
use crate::config::layers::Layer;
use crate::config::native;
use crate::explain::readers::Context;

/// True for the name of a Dockerfile or Procfile.
pub fn is_named_so(name: &str) -> bool {
    named(name).is_some()
}

/// The kind of a file that its name shows.
fn named(name: &str) -> Option<ImageFile> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let is_variant = |of: &str| {
        base.strip_prefix(of)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    if base == "Dockerfile"
        || is_variant("Dockerfile")
        || base.to_ascii_lowercase().ends_with(".dockerfile")
    {
        return Some(ImageFile::Dockerfile);
    }
    (base == "Procfile" || is_variant("Procfile")).then_some(ImageFile::Procfile)
}

/// The kind of a file of this name and text.
pub fn kind_of(name: &str, text: &str) -> Option<ImageFile> {
    if let Some(file) = named(name) {
        return Some(file);
    }
    if compose::is_compose(name, text) {
        return Some(ImageFile::Compose);
    }
    let base = name.rsplit('/').next().unwrap_or(name);
    let is_shell = base.ends_with(".sh")
        || text.lines().next().is_some_and(|line| {
            line.starts_with("#!")
                && (line.trim_end().ends_with("sh") || line.contains("execlineb"))
        });
    (is_shell && script::starts_server(text)).then_some(ImageFile::Script)
}

/// Lines of a file with what takes their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The first of the lines, from 1.
    pub line: usize,
    /// The lines as they stand there.
    pub before: Vec<String>,
    /// Those that take their place; none if they go away.
    pub after: Vec<String>,
}

/// A file of an image, explained.
#[derive(Debug, Default)]
pub struct Explained {
    pub reading: Reading,
    pub replacements: Vec<Replacement>,
}

/// Explains a file of an image beside all other subjects.
pub fn explain(
    file: ImageFile,
    name: &str,
    text: &str,
    (all, read): (&[Subject], &[Explained]),
    around: &Context<'_>,
) -> Explained {
    let mut report = Report::new(name);
    if file == ImageFile::Compose {
        compose::explain((name, text), (all, read), around, &mut report);
        return report.explained;
    }
    let placement = match file {
        ImageFile::Dockerfile => placement_of(name, text, all, around.current_dir),
        _ => covering(name, all, around).unwrap_or_default(),
    };
    let mut conversion = Conversion::new(all, read, &placement, around);
    if file == ImageFile::Procfile && !placement.runs_nginx {
        // A platform that reads a Procfile has a router of its own before the application.
        conversion.forget_site();
    }
    conversion.in_shell();
    match file {
        ImageFile::Dockerfile => dockerfile::explain(text, &conversion, &mut report),
        ImageFile::Procfile => procfile::explain(text, &conversion, &mut report),
        ImageFile::Script | ImageFile::Compose => {
            script::explain((name, text), &conversion, &mut report);
        }
    }
    report.explained
}

/// The layers that the commands of a file give: a proxy may pass requests to their addresses.
pub fn layers(subject: &Subject, all: &[Subject], around: &Context<'_>) -> Vec<Layer> {
    let Kind::Image(file, text) = &subject.kind else {
        return Vec::new();
    };
    let commands = match file {
        ImageFile::Compose => return compose::layers((&subject.name, text), all, around),
        ImageFile::Dockerfile => dockerfile::commands(text),
        ImageFile::Procfile => procfile::commands(text),
        ImageFile::Script => script::commands(text),
    };
    let layers = commands
        .iter()
        .filter_map(|words| commands::layer_of(words, around));
    let inherited = match file {
        ImageFile::Dockerfile => dockerfile::inherited_layer(text),
        _ => None,
    };
    layers.chain(inherited).collect()
}

/// Tells whether a file of this name, as the arguments have it, is there.
fn exists(current: &Path) -> impl Fn(&str) -> bool {
    |name| kind(name, current).is_some()
}

/// The kind of a file of this name, as the arguments have it. No other file stands for it.
fn kind(name: &str, current: &Path) -> Option<FileKind> {
    let path = current.join(native::path(name));
    (Files::OF_THIS_MACHINE.kind)(&path)
}

/// The placement in the image of a Dockerfile: a Compose file may say from which directory it is built.
fn placement_of(name: &str, text: &str, all: &[Subject], current: &Path) -> Placement {
    let placement = Placement::of(name, text, &exists(current));
    match compose::context_of(name, all) {
        Some(directory) => placement.in_context(directory),
        None => placement,
    }
}

/// The places of files in the images of all Dockerfiles.
pub fn placements(all: &[Subject], current: &Path) -> Vec<Placement> {
    let files = all.iter().filter_map(|subject| match &subject.kind {
        Kind::Image(ImageFile::Dockerfile, text) => Some((&*subject.name, &**text)),
        _ => None,
    });
    files
        .map(|(name, text)| placement_of(name, text, all, current))
        .collect()
}

/// The file of this machine that a copy puts at an absolute path of the image; `None` if the path is there, or the
/// images have several files at it.
pub fn stand_in(path: &Path, placements: &[Placement], current: &Path) -> Option<PathBuf> {
    if !path.is_absolute() || path.exists() {
        return None;
    }
    let name = native::text(path.as_os_str());
    let found = placements.iter().filter_map(|placement| {
        let sources = placement.sources_of(&name);
        let mut files = sources.iter().map(|name| current.join(native::path(name)));
        files.find(|file| file.is_file())
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    found.dedup();
    found.pop().filter(|_| found.is_empty())
}

/// The placement in the image into whose build a file comes: of its directory, or of one above.
pub fn covering(name: &str, all: &[Subject], around: &Context<'_>) -> Option<Placement> {
    let files = all.iter().filter_map(|subject| match &subject.kind {
        Kind::Image(ImageFile::Dockerfile, text) => Some((&*subject.name, &**text)),
        _ => None,
    });
    let base = name.rsplit('/').next().unwrap_or(name);
    let placed =
        files.map(|(file, text)| (placement_of(file, text, all, around.current_dir), text));
    let covering = placed.filter(|(placement, _)| name.starts_with(placement.directory()));
    // Of several in one directory, one that names the file.
    let best =
        covering.max_by_key(|(placement, text)| (placement.directory().len(), text.contains(base)));
    best.map(|(placement, _)| placement)
}

/// Collects the verdicts of a file.
pub struct Report {
    source: Arc<str>,
    explained: Explained,
}

impl Report {
    fn new(name: &str) -> Self {
        Self {
            source: name.into(),
            explained: Explained::default(),
        }
    }

    /// Adds the verdict of what begins at this line.
    fn say(&mut self, line: usize, text: &str, verdict: Verdict) {
        let first = text.lines().next().unwrap_or_default().trim_end();
        self.explained.reading.lines.push(Line {
            place: Place {
                source: Arc::clone(&self.source),
                line,
            },
            text: secrets::masked(&native::shown(first)),
            verdict: verdict.map(secrets::masked),
        });
    }

    /// Adds a replacement, unless nothing changes.
    fn replace(&mut self, line: usize, before: &[&str], after: Vec<String>) {
        let hidden = |text: &str| secrets::masked(&native::shown(text.trim_end()));
        let before: Vec<_> = before.iter().map(|line| hidden(line)).collect();
        let after: Vec<_> = after.iter().map(|line| hidden(line)).collect();
        if before != after {
            self.explained.replacements.push(Replacement {
                line,
                before,
                after,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::HostFacts;
    use crate::config::foreign::Surroundings;

    fn explained(file: ImageFile, text: &str) -> Explained {
        let host = HostFacts::of_this_process();
        let context = Context {
            around: Surroundings::of(&host, &Files::OF_THIS_MACHINE).for_explanation(),
            host: &host,
            chosen: &[],
        };
        let subject = Subject {
            name: "no-such-directory/file".to_owned(),
            kind: Kind::Image(file, text.to_owned()),
        };
        let _layers = layers(&subject, &[], &context);
        explain(file, &subject.name, text, (&[], &[]), &context)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn any_file_of_an_image_is_explained_without_a_panic(
            file in 0..4usize,
            text in "(\\PC|\n){0,60}|((FROM|RUN|COPY|CMD|services:|  web:|    command: |    build: |image: |ENTRYPOINT|ENV|USER|web:|exec|if|then|fi|case|esac|\\$\\{?[A-Z]|tiangolo/uwsgi-nginx|python:3|uwsgi|gunicorn|nginx|apt-get install|pip install|supervisord|--ini|-c|-w|<<EOF|EOF|&&|\\||;|\\[|\\]|\"|'|,|\\\\|#| |\n|a|1){0,40})",
        ) {
            let kinds = [ImageFile::Dockerfile, ImageFile::Procfile, ImageFile::Script, ImageFile::Compose];
            let explained = explained(kinds[file], &text);
            for line in &explained.reading.lines {
                prop_assert!(line.place.line <= text.lines().count().max(1), "{line:?} of {text}");
            }
        }
    }
}
