//! Reads the sources of settings, the strongest first, and resolves them: flags, environment, settings file,
//! files of other servers.

use std::path::PathBuf;

use super::layers::Layer;
use super::{ConfigError, ControlTarget, HostFacts, Resolved, environment, file, foreign, resolve};
use crate::os::settings_file;

/// Reads environment and settings file, and resolves them with the flags.
///
/// # Errors
/// [`ConfigError`] for the first setting that cannot be used.
pub fn load(flags: Layer, surroundings: &HostFacts) -> Result<Resolved, ConfigError> {
    for _ in 0..SWITCHES {
        let resolved = load_once(flags.clone(), surroundings)?;
        // A link that was switched meanwhile: some of this may be of the release before.
        if resolved.config.release.stale().is_empty() {
            return Ok(resolved);
        }
    }
    load_once(flags, surroundings)
}

/// Links switched while the settings are read that are waited for.
const SWITCHES: usize = 3;

fn load_once(flags: Layer, surroundings: &HostFacts) -> Result<Resolved, ConfigError> {
    let read = read(flags, surroundings)?;
    if let Some(mistake) = read.mistake {
        return Err(mistake);
    }
    let mut warnings = read.warnings;
    let mut resolved = resolve::resolve(&read.layers, read.path, surroundings)?;
    warnings.append(&mut resolved.config.warnings);
    resolved.config.warnings = warnings;
    resolved.notices = read.notices;
    Ok(resolved)
}

/// Reads the same, and resolves only what a verb needs to find the server. A running server
/// does not mind a mistake made in its settings file meanwhile, so neither do the verbs.
///
/// # Errors
/// [`ConfigError`] for the first of those settings that cannot be used.
pub fn load_reach(flags: Layer, surroundings: &HostFacts) -> Result<ControlTarget, ConfigError> {
    let read = read(flags, surroundings)?;
    resolve::operations::reach(&read.layers, surroundings, read.mistake.as_ref())
}

/// The three sources after reading.
struct Read {
    /// The strongest first.
    layers: Vec<Layer>,
    /// The settings file, if there is one.
    path: Option<PathBuf>,
    /// The first mistake in that file, of which the layer has the rest.
    mistake: Option<ConfigError>,
    warnings: Vec<String>,
    notices: Vec<String>,
}

/// The scripts to source before the settings are read; absolute, or below the current directory.
///
/// # Errors
/// [`ConfigError`] if the settings file cannot be read.
pub fn prestart(flags: Layer, surroundings: &HostFacts) -> Result<Vec<String>, ConfigError> {
    let own = read_own(flags, surroundings)?;
    let files = foreign::Files::OF_THIS_MACHINE;
    let around = foreign::Surroundings::of(surroundings, &files);
    Ok(foreign::image::prestart::files(&own.layers, &around))
}

/// The command line of pyserve in the `web:` line of a `Procfile`, where the setting `image` is on.
///
/// # Errors
/// [`ConfigError`] if the settings file cannot be read.
pub fn procfile(
    flags: Layer,
    surroundings: &HostFacts,
) -> Result<Option<Vec<String>>, ConfigError> {
    let own = read_own(flags, surroundings)?;
    let files = foreign::Files::OF_THIS_MACHINE;
    let around = foreign::Surroundings::of(surroundings, &files);
    let is_image = foreign::image::Image::of(&own.layers) != foreign::image::Image::No;
    Ok(is_image
        .then(|| foreign::image::procfile::own_words(&around))
        .flatten())
}

/// True if the setting `image` is on.
///
/// # Errors
/// [`ConfigError`] if the settings file cannot be read.
pub fn is_image(surroundings: &HostFacts) -> Result<bool, ConfigError> {
    let own = read_own(Layer::default(), surroundings)?;
    Ok(foreign::image::Image::of(&own.layers) != foreign::image::Image::No)
}

/// The command of a process type of the `Procfile` in the current directory.
pub fn process_type(kind: &str, surroundings: &HostFacts) -> Option<String> {
    let files = foreign::Files::OF_THIS_MACHINE;
    let around = foreign::Surroundings::of(surroundings, &files);
    foreign::image::procfile::command(kind, &around)
}

/// Reads the flags, the environment and the settings file.
fn read_own(flags: Layer, surroundings: &HostFacts) -> Result<Read, ConfigError> {
    let (variables, warnings) = environment::layer(&surroundings.environment);
    let path = resolve::settings_file(&[&flags, &variables], surroundings)?;
    let (from_file, mistake) = match &path {
        None => (Layer::default(), None),
        Some(path) => {
            let absolute = surroundings.current_dir.join(path);
            let bytes =
                settings_file::read(&absolute).map_err(|cause| ConfigError::Unreadable {
                    path: path.clone(),
                    cause,
                })?;
            let text = str::from_utf8(&bytes).map_err(|error| ConfigError::NotUtf8 {
                path: path.clone(),
                line: file::line_of(&bytes, error.valid_up_to()),
            })?;
            file::layer(path, text)
        }
    };
    Ok(Read {
        layers: vec![flags, variables, from_file],
        path,
        mistake,
        warnings,
        notices: Vec::new(),
    })
}

fn read(flags: Layer, surroundings: &HostFacts) -> Result<Read, ConfigError> {
    let mut read = read_own(flags, surroundings)?;
    let files = foreign::Files::OF_THIS_MACHINE;
    let around = foreign::Surroundings::of(surroundings, &files);
    let by_link =
        surroundings.uwsgi_command_line.is_some() || surroundings.gunicorn_command_line.is_some();
    let Some(image) = foreign::image::read(&read.layers, &around, by_link) else {
        read_foreign(&mut read, surroundings, None);
        return Ok(read);
    };
    let surroundings = image.host(surroundings);
    let reading = image.reading.clone();
    read.notices = reading.notices();
    read.add(reading);
    let sizes = image.sizes_workers.then_some("workers");
    read_foreign(&mut read, &surroundings, sizes);
    if surroundings.environment.variable("PORT").is_none() {
        let is_root = around.is_root;
        let address = foreign::image::default_address(is_root);
        read.layers.push(address);
    }
    Ok(read)
}

impl Read {
    /// Adds the layer of other servers' files below the others.
    fn add(&mut self, mut reading: foreign::Reading) {
        self.take_messages(&reading);
        foreign::found::yield_to(&mut reading.layer, &self.layers);
        self.layers.push(reading.layer);
    }

    fn take_messages(&mut self, reading: &foreign::Reading) {
        self.warnings.extend(reading.warnings());
        self.mistake = self.mistake.take().or_else(|| reading.mistake());
    }
}

/// Reads the files of other servers; `unless_given` is a setting for which their defaults do not count.
fn read_foreign(read: &mut Read, surroundings: &HostFacts, unless_given: Option<&str>) {
    let layers = read.layers.clone();
    let files = foreign::Files::OF_THIS_MACHINE;
    let around = foreign::Surroundings::of(surroundings, &files);
    let sources = foreign::found::uwsgi_sources(&layers, surroundings);
    let uwsgi = sources.map(|sources| match &surroundings.uwsgi_directory {
        None => foreign::uwsgi::read(&sources, &around),
        Some(directory) => foreign::found::read_adopted(&sources, directory, &around),
    });
    let gunicorn = foreign::found::gunicorn_sources(&layers, surroundings);
    let gunicorn = gunicorn.map(|sources| {
        let known: Vec<_> = layers.iter().collect();
        foreign::found::read_gunicorn(&sources, &known, surroundings, &around)
    });
    let supervisord = foreign::found::supervisord_file(&layers)
        .map(|name| foreign::found::read_supervisord(&name, &layers, surroundings, &around));
    let nginx = foreign::found::nginx_file(&layers).map(|name| {
        let others = gunicorn.iter().chain(&uwsgi).map(|reading| &reading.layer);
        let known = layers.iter().chain(others);
        foreign::found::start_nginx(&name, &known.collect::<Vec<_>>(), &around)
    });
    for mut reading in [nginx, gunicorn, uwsgi, supervisord].into_iter().flatten() {
        read.take_messages(&reading);
        foreign::found::yield_to(&mut reading.layer, &layers);
        if surroundings.uwsgi_command_line.is_some() {
            foreign::found::called_by_name(&mut reading.layer);
        }
        if let Some(name) = unless_given {
            reading.forget_implied(name);
        }
        read.layers.push(reading.layer);
    }
}
