//! Which foreign files are in play, and how their layer gives way to stronger ones.

use std::path::{Path, PathBuf};

use super::uwsgi::{Form, Sources};
use crate::config::layers::{Layer, SettingOrigin, SettingsTable};
use crate::config::{HostFacts, native, settings};

/// The sources of uWSGI that are in play: files that `ini` names, or those that uWSGI finds by its
/// variables. Without one, `UWSGI_*` variables mean nothing.
pub fn uwsgi_sources(layers: &[Layer], host: &HostFacts) -> Option<Sources> {
    let mut sources = Sources {
        variables: true,
        command_line: host.uwsgi_command_line.clone().unwrap_or_default(),
        ..Sources::default()
    };
    if let Some(entry) = layers.iter().find_map(|layer| layer.entry("ini")) {
        let base = match &entry.origin {
            SettingOrigin::File { path, .. } => path.parent().map(Path::to_owned),
            _ => None,
        };
        let base = base.filter(|base| !base.as_os_str().is_empty());
        let names = entry.values.iter().filter(|name| !name.is_empty());
        sources.files = names
            .map(|name| {
                let name = match &base {
                    Some(base) => native::text(base.join(native::path(name)).as_os_str()),
                    None => name.clone(),
                };
                let form = form_of(&name);
                (name, form)
            })
            .collect();
        return (!sources.files.is_empty()).then_some(sources);
    }
    if host.uwsgi_command_line.is_some() {
        return Some(sources);
    }
    let set = |name: &str| host.environment.variable(name).map(native::text);
    if set("UWSGI_INI").is_some() {
        return Some(sources);
    }
    let file = PathBuf::from(native::string(&set("UWSGI_INI_DIR")?)).join("uwsgi.ini");
    let is_there = host.current_dir.join(&file).is_file();
    let name = native::text(file.as_os_str());
    sources.files = vec![(name, Form::Ini)];
    is_there.then_some(sources)
}

/// The words behind the name of the program, if that is `uwsgi`: a link of that name takes its command line.
pub fn called_as_uwsgi() -> Option<Vec<String>> {
    let mut words = std::env::args_os();
    let program = PathBuf::from(words.next()?);
    let is_uwsgi = program.file_name()? == "uwsgi";
    is_uwsgi.then(|| words.map(|word| native::text(&word)).collect())
}

/// Adds what the name `uwsgi` of the program means: the application may import that module.
pub fn called_by_name(layer: &mut Layer) {
    if let Some(setting) = settings::named("uwsgi_module") {
        let origin = SettingOrigin::Foreign {
            place: "the name uwsgi".to_owned(),
            text: "uwsgi".to_owned(),
        };
        layer.insert(setting, vec!["yes".to_owned()], origin);
    }
}

/// The form of a file that `ini` names, with `:section` behind it perhaps.
pub fn form_of(name: &str) -> Form {
    let plain = match name.rsplit_once(':') {
        Some((plain, section)) if !section.contains('/') => plain,
        _ => name,
    };
    Form::of_name(plain).unwrap_or(Form::Ini)
}

/// Removes what contradicts `stronger` layers, each of which has precedence as a whole.
pub fn yield_to(layer: &mut Layer, stronger: &[Layer]) {
    let sets = |name: &str| stronger.iter().any(|layer| layer.entry(name).is_some());
    let tables = || stronger.iter().flat_map(|layer| &layer.locations);
    let answers_all = |table: &SettingsTable| {
        place(table) == (false, "/".to_owned(), Vec::new()) && table.entry("static").is_none()
    };
    if sets("uwsgi") || sets("upstream") || tables().any(answers_all) {
        layer.remove("app");
    }
    if sets("static") {
        for name in ["static_missing", "static_max_age"] {
            layer.remove(name);
        }
    }
    let taken = |own: &SettingsTable| tables().any(|table| place(table) == place(own));
    let removed: Vec<_> = layer.locations.extract_if(.., |own| taken(own)).collect();
    for path in removed.iter().filter_map(|table| value(table, "path")) {
        layer.remove_value("static_missing", &format!("{path}=app"));
    }
    let companions = || stronger.iter().flat_map(|layer| &layer.companions);
    layer
        .companions
        .retain(|own| !companions().any(|table| value(table, "name") == value(own, "name")));
}

/// The requests that a table is for: its path or prefix, and its hosts.
fn place(table: &SettingsTable) -> (bool, String, Vec<String>) {
    let hosts = table.entry("host").map(|entry| entry.values.clone());
    let hosts = hosts.unwrap_or_default();
    match value(table, "path") {
        Some(path) => (true, path, hosts),
        None => (false, prefix(table), hosts),
    }
}

fn prefix(table: &SettingsTable) -> String {
    let given = value(table, "prefix").unwrap_or_default();
    match given.trim_end_matches('/') {
        "" => "/".to_owned(),
        prefix => prefix.to_owned(),
    }
}

fn value(table: &SettingsTable, name: &str) -> Option<String> {
    table.entry(name)?.values.first().cloned()
}
