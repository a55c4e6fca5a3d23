//! Images that users come from: the variables and files by which these are configured.
//!
//! The setting `image` turns the reading on, as `docker/Dockerfile` does. One file below for each family:
//! [`nginx_uwsgi`] (tiangolo/uwsgi-nginx, -flask), [`s2i`] (OpenShift's source-to-image), [`procfile`] (Heroku and
//! its kin). Their layer is below flags, `PYSERVE_*` variables and `pyserve.toml`, and above the files of other
//! servers that it names. [`prestart`] finds the scripts to source before all of this.

mod nginx_uwsgi;
pub mod prestart;
pub mod procfile;
mod s2i;

use super::drafting::{self, Draft};
use super::{Line, Place, Reading, Surroundings, Verdict, origin, secrets};
use crate::config::layers::{Layer, SettingsTable};
use crate::config::{Environment, HostFacts, locations, native, settings};

/// The value of the setting `image`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Variables and files of other images mean nothing.
    No,
    /// They are read.
    Yes,
    /// They are read, and the image stands for one of source-to-image.
    S2i,
}

impl Image {
    /// The words of the setting.
    pub const CHOICES: [(&str, Image); 3] =
        [("yes", Image::Yes), ("no", Image::No), ("s2i", Image::S2i)];

    /// The value that these layers give; a wrong one is reported where the settings are resolved.
    pub fn of(layers: &[Layer]) -> Self {
        let entry = layers.iter().find_map(|layer| layer.entry("image"));
        let word = entry.and_then(|entry| entry.values.first());
        let known = word.and_then(|word| {
            let is_it = |(name, _): &&(&str, Image)| name.eq_ignore_ascii_case(word);
            Self::CHOICES.iter().find(is_it)
        });
        known.map_or(Self::No, |(_, image)| *image)
    }
}

/// Everything that variables and files of an image say.
#[derive(Debug, Default)]
pub struct Found {
    /// Settings and verdicts.
    pub reading: Reading,
    /// The command line of gunicorn that stands for the start, without the name of the program.
    pub gunicorn: Option<Vec<String>>,
    /// That of uWSGI, likewise.
    pub uwsgi: Option<Vec<String>>,
    /// Variables of uWSGI that the image would have set.
    pub variables: Vec<(String, String)>,
    /// True if the default number of workers of gunicorn and uWSGI is not that of the image.
    pub sizes_workers: bool,
}

impl Found {
    /// The facts with the command lines and variables of the image.
    pub fn host(&self, host: &HostFacts) -> HostFacts {
        let mut host = host.clone();
        host.environment = host.environment.with(&self.variables);
        let has_command_line =
            host.gunicorn_command_line.is_some() || host.uwsgi_command_line.is_some();
        if !has_command_line {
            host.gunicorn_command_line.clone_from(&self.gunicorn);
            host.uwsgi_command_line.clone_from(&self.uwsgi);
        }
        host
    }
}

/// Reads the variables and files of an image below `layers`; `None` if the setting `image` is `no`. With
/// `has_command_line`, that of uWSGI or gunicorn names the application, and no file that the image finds does.
pub fn read(layers: &[Layer], around: &Surroundings<'_>, has_command_line: bool) -> Option<Found> {
    let image = Image::of(layers);
    if image == Image::No {
        return None;
    }
    let mut reader = Reader {
        layers,
        around,
        has_command_line,
        draft: Draft::default(),
        lines: Vec::new(),
        found: Found::default(),
    };
    s2i::decide(&mut reader, image == Image::S2i);
    nginx_uwsgi::decide(&mut reader);
    procfile::decide(&mut reader);
    nginx_uwsgi::main_file(&mut reader);
    reader.port();
    reader.prestart();
    let mut found = reader.found;
    drafting::finish(&mut reader.lines, std::iter::empty(), &[]);
    found.reading = Reading {
        layer: reader.draft.layer,
        lines: reader.lines,
        implied: Vec::new(),
    };
    Some(found)
}

/// The address of an image without another one, below all other layers: port 80 for root, else 8080.
pub fn default_address(is_root: bool) -> Layer {
    let mut layer = Layer::default();
    let port = if is_root { 80 } else { 8080 };
    if let Some(setting) = settings::named("bind") {
        let place = place("image");
        let origin = origin(&place, "image");
        layer.insert(setting, vec![format!("0.0.0.0:{port}")], origin);
    }
    layer
}

/// The end of an error about another number.
const NO_PORT: &str = "the number of a port, 1 to 65535";

fn place(source: &str) -> Place {
    Place {
        source: source.into(),
        line: 0,
    }
}

/// Collects settings and verdicts.
struct Reader<'a> {
    layers: &'a [Layer],
    around: &'a Surroundings<'a>,
    has_command_line: bool,
    draft: Draft,
    lines: Vec<Line>,
    found: Found,
}

impl<'a> Reader<'a> {
    fn environment(&self) -> &'a Environment {
        self.around.environment
    }

    /// The value of a variable, unless it is empty.
    fn variable(&self, name: &str) -> Option<String> {
        let value = self.environment().variable(name);
        value.map(native::text)
    }

    /// True if a stronger layer, or this one, has the setting.
    fn is_set(&self, name: &str) -> bool {
        let mut all = self.layers.iter().chain([&self.draft.layer]);
        all.any(|layer| layer.entry(name).is_some())
    }

    fn is_file(&self, path: &str) -> bool {
        self.around.kind(path).is_some_and(|kind| kind.is_file)
    }

    fn is_dir(&self, path: &str) -> bool {
        self.around.kind(path).is_some_and(|kind| kind.is_dir)
    }

    /// Adds the verdict about a variable or a file.
    fn say(&mut self, source: &str, text: &str, verdict: Verdict) {
        self.lines.push(Line {
            place: place(source),
            text: secrets::masked(text),
            verdict,
        });
    }

    /// Sets what a variable or a file asks for.
    fn set(&mut self, source: &str, text: &str, name: &str, value: String) {
        let verdict = self.draft.set(&place(source), text, name, vec![value]);
        self.say(source, text, verdict);
    }

    /// Adds values to a setting.
    fn append(&mut self, source: &str, text: &str, name: &str, more: &[String]) {
        let verdict = self.draft.append(&place(source), text, name, more);
        self.say(source, text, verdict);
    }

    /// Adds a `[[location]]`.
    fn location(&mut self, source: &str, text: &str, given: &[(&str, String)]) {
        let given: Vec<_> = given
            .iter()
            .map(|(name, value)| (*name, vec![value.clone()]))
            .collect();
        let table: SettingsTable =
            drafting::table(&place(source), text, &mut locations::all(), &given);
        let shown: Vec<_> = given
            .iter()
            .map(|(name, values)| format!("{name} = {:?}", values.join(" ")))
            .collect();
        self.draft.layer.locations.push(table);
        let shown = format!("[[location]] {}", shown.join(" "));
        self.say(source, text, Verdict::Honoured(shown));
    }

    /// Refuses a free port, which nothing outside of the container could know.
    fn port(&mut self) {
        let port = self.variable("PORT").filter(|_| !self.is_set("bind"));
        if let Some(port) = port.filter(|port| port.parse::<u16>() == Ok(0)) {
            let why = format!("not {NO_PORT} (give one, as in PORT=8080)");
            self.say("PORT", &format!("PORT={port}"), Verdict::Wrong(why));
        }
    }

    fn prestart(&mut self) {
        for file in prestart::files(self.layers, self.around) {
            let text = "sourced before the start";
            self.say(&file, &file, Verdict::Read(text.to_owned()));
        }
        if let Some(file) = prestart::missing(self.layers, self.around) {
            let text = format!("{}={file}", prestart::VARIABLE);
            let why = "there is no such file, so no script runs before the start".to_owned();
            self.say(prestart::VARIABLE, &text, Verdict::Noted(why));
        }
    }
}

#[cfg(test)]
mod tests;
