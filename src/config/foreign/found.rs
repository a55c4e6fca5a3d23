//! Which foreign files are in play, and how their layer gives way to stronger ones.

use std::path::{Path, PathBuf};

use super::image::Image;
use super::surroundings::FileKind;
use super::uwsgi::{self, Form, Sources};
use super::{Files, Line, Place, Reading, Surroundings, Verdict};
use super::{gunicorn, nginx, supervisord};
use crate::config::discovery::{self, Discovery};
use crate::config::layers::{Layer, SettingOrigin, SettingsTable};
use crate::config::{HostFacts, adopted, htpasswd, native, settings, values};

/// The sources of uWSGI that are in play: files that `ini` names, or those that uWSGI finds by its
/// variables. Without one, `UWSGI_*` variables mean nothing.
pub fn uwsgi_sources(layers: &[Layer], host: &HostFacts) -> Option<Sources> {
    let mut sources = Sources {
        variables: true,
        command_line: host.uwsgi_command_line.clone().unwrap_or_default(),
        ..Sources::default()
    };
    // An adopted command line takes the place of the files with which the server was started.
    let named = layers.iter().find_map(|layer| layer.entry("ini"));
    if let Some(entry) = named.filter(|_| host.uwsgi_directory.is_none()) {
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
    // In an image of the family of nginx and uWSGI, its options count without a file.
    let is_image = Image::of(layers) != Image::No && set("UWSGI_INI_DIR").is_none();
    let sizes = ["UWSGI_PROCESSES", "UWSGI_CHEAPER"];
    if is_image && sizes.iter().any(|name| set(name).is_some()) {
        return Some(sources);
    }
    let file = PathBuf::from(native::string(&set("UWSGI_INI_DIR")?)).join("uwsgi.ini");
    let is_there = host.current_dir.join(&file).is_file();
    let name = native::text(file.as_os_str());
    sources.files = vec![(name, Form::Ini)];
    is_there.then_some(sources)
}

/// Reads the command line that a running server adopts, whose paths are below `directory`.
pub fn read_adopted(sources: &Sources, directory: &Path, around: &Surroundings<'_>) -> Reading {
    let around = around.in_directory(directory);
    let mut reading = uwsgi::read(sources, &around);
    adopted::settle_directory(&mut reading.layer, directory);
    reading
}

/// The file that `nginx` names.
pub fn nginx_file(layers: &[Layer]) -> Option<String> {
    file_of("nginx", layers)
}

/// The sources of gunicorn that are in play: the file that `gunicorn` names, or the command line of a
/// link of that name. Without one, `GUNICORN_CMD_ARGS` means nothing.
pub fn gunicorn_sources(layers: &[Layer], host: &HostFacts) -> Option<gunicorn::Sources> {
    let sources = gunicorn::Sources {
        command_line: host.gunicorn_command_line.clone(),
        file: file_of("gunicorn", layers),
    };
    (sources != gunicorn::Sources::default()).then_some(sources)
}

/// Reads the sources of gunicorn, with the interpreter that `layers` choose.
pub fn read_gunicorn(
    sources: &gunicorn::Sources,
    layers: &[&Layer],
    host: &HostFacts,
    around: &Surroundings<'_>,
) -> Reading {
    let evaluate = |location: &str| {
        let evaluator = gunicorn::python::evaluator(layers, host);
        let plain = location.strip_prefix("file:").unwrap_or(location);
        let stand_in = (around.files.stand_in)(&native::path(plain));
        let location = stand_in.map_or(location.to_owned(), |path| native::text(path.as_os_str()));
        evaluator
            .map_err(|error| error.to_string())?
            .evaluate(&location)
    };
    gunicorn::read(sources, around, &evaluate)
}

/// The file that `supervisord` names.
pub fn supervisord_file(layers: &[Layer]) -> Option<String> {
    file_of("supervisord", layers)
}

/// Reads a file of supervisord, and the command lines of the servers in it.
pub fn read_supervisord(
    name: &str,
    layers: &[Layer],
    host: &HostFacts,
    around: &Surroundings<'_>,
) -> Reading {
    supervisord::read(name, around, &|call| {
        let current = match call.directory {
            Some(directory) => around.current_dir.join(native::path(directory)),
            None => around.current_dir.to_owned(),
        };
        let around = around.in_directory(&current);
        match call.server {
            supervisord::Server::Uwsgi => {
                let sources = Sources {
                    variables: true,
                    command_line: call.words.to_vec(),
                    ..Sources::default()
                };
                uwsgi::read(&sources, &around)
            }
            supervisord::Server::Gunicorn => {
                let sources = gunicorn::Sources {
                    command_line: Some(call.words.to_vec()),
                    file: None,
                };
                let host = HostFacts {
                    current_dir: current.clone(),
                    ..host.clone()
                };
                let known = layers.iter().chain([call.layer]);
                read_gunicorn(&sources, &known.collect::<Vec<_>>(), &host, &around)
            }
            supervisord::Server::Nginx => {
                let file = supervisord::nginx_file(call.words);
                let known: Vec<_> = layers.iter().chain([call.layer]).collect();
                match around.kind(&file).is_some_and(|kind| kind.is_file) {
                    true => read_nginx(&file, &known, &around),
                    false if file == supervisord::NGINX_FILE => {
                        packaged_nginx(Path::new(supervisord::NGINX_FILE), &known, &around)
                    }
                    false => {
                        let why = "the file is not here: name the sites with `nginx`".to_owned();
                        let verdict = match around.is_explained {
                            true => Verdict::Unsupported(why),
                            false => Verdict::Wrong(why),
                        };
                        missing(&file, verdict)
                    }
                }
            }
        }
    })
}

/// Reads a file of nginx for the purpose of these surroundings.
fn read_nginx(file: &str, known: &[&Layer], around: &Surroundings<'_>) -> Reading {
    match around.is_explained {
        true => explain_nginx(file, known, around),
        false => start_nginx(file, known, around),
    }
}

/// The sites that the main file of a package of nginx includes: that file goes away with the package, and the sites
/// stay.
fn packaged_nginx(main: &Path, known: &[&Layer], around: &Surroundings<'_>) -> Reading {
    let name = native::text(main.as_os_str());
    let sites = SITES.map(|sites| main.with_file_name(sites));
    let has_sites = sites.iter().any(|pattern| {
        let entries = pattern.parent().map(std::fs::read_dir);
        entries.into_iter().flatten().flatten().next().is_some()
    });
    if !has_sites {
        let why = "the file is not here: name the sites with `nginx`".to_owned();
        return missing(&name, Verdict::Noted(why));
    }
    let includes = sites.map(|pattern| format!("include {};", pattern.display()));
    let text = format!("http {{ {} }}", includes.join(" "));
    let read = |path: &Path, most: usize| match path == main {
        true => Ok(text.clone().into_bytes()),
        false => (around.files.read)(path, most),
    };
    let kind = |path: &Path| match path == main {
        true => Some(FileKind {
            is_link: false,
            is_file: true,
            is_dir: false,
            inode: 0,
        }),
        false => (around.files.kind)(path),
    };
    let files = Files {
        read: &read,
        kind: &kind,
        ..*around.files
    };
    let around = Surroundings {
        files: &files,
        ..around.in_directory(around.current_dir)
    };
    let mut reading = read_nginx(&name, known, &around);
    reading.lines.retain(|line| {
        let is_of_main = *line.place.source == *name && line.place.line > 0;
        !is_of_main || matches!(line.verdict, Verdict::Wrong(_))
    });
    reading
}

/// The sites that the main files of packages include, beside them.
const SITES: [&str; 2] = ["conf.d/*.conf", "sites-enabled/*"];

/// The reading of a file that is not on this machine.
fn missing(file: &str, verdict: Verdict) -> Reading {
    Reading {
        lines: vec![Line {
            place: Place {
                source: file.into(),
                line: 0,
            },
            text: file.to_owned(),
            verdict,
        }],
        ..Reading::default()
    }
}

/// The file that the setting `name` gives, relative to the file that sets it.
fn file_of(name: &str, layers: &[Layer]) -> Option<String> {
    let entry = layers.iter().find_map(|layer| layer.entry(name))?;
    let file = entry.values.first().filter(|file| !file.is_empty())?;
    let base = match &entry.origin {
        SettingOrigin::File { path, .. } => {
            path.parent().filter(|base| !base.as_os_str().is_empty())
        }
        _ => None,
    };
    Some(match base {
        Some(base) if !file.starts_with("python:") => {
            native::text(base.join(native::path(file)).as_os_str())
        }
        _ => file.clone(),
    })
}

/// Reads a file of nginx for a start, where `layers` say which application there is.
pub fn start_nginx(name: &str, layers: &[&Layer], around: &Surroundings<'_>) -> Reading {
    let is_dir = |dir: &Path| is_dir(dir, around);
    nginx::read(
        name,
        around,
        &given(layers, around, (&is_dir, &is_dir), &|name| {
            around.environment.raw(name)
        }),
    )
}

fn is_dir(dir: &Path, around: &Surroundings<'_>) -> bool {
    (around.files.kind)(&around.current_dir.join(dir)).is_some_and(|kind| kind.is_dir)
}

/// Reads a file of nginx that may be of another machine.
pub fn explain_nginx(name: &str, layers: &[&Layer], around: &Surroundings<'_>) -> Reading {
    nginx::read(
        name,
        around,
        &given(
            layers,
            around,
            (&|_| true, &|dir| is_dir(dir, around)),
            &|name| around.environment.raw(name),
        ),
    )
}

/// True if a directory is there.
type IsDir<'a> = &'a dyn Fn(&Path) -> bool;

fn given<'a>(
    layers: &[&Layer],
    around: &Surroundings<'_>,
    (is_dir, is_dir_here): (IsDir<'a>, IsDir<'a>),
    variable: &'a dyn Fn(&str) -> Option<String>,
) -> nginx::Given<'a> {
    let entry = |name: &str| layers.iter().find_map(|layer| layer.entry(name));
    let foreign = layers.iter().filter_map(|layer| layer.entry("bind"));
    let binds = foreign.filter(|entry| matches!(entry.origin, SettingOrigin::Foreign { .. }));
    let chdir = entry("chdir").and_then(|entry| entry.values.first());
    let chdir = chdir.map_or(around.current_dir.to_owned(), |dir| {
        around.current_dir.join(native::path(dir))
    });
    let has_server = entry("uwsgi").or(entry("upstream")).is_some();
    let is_found = || match discovery::discover(&chdir) {
        Ok(Discovery::Found(app)) => Some(app.to_string()),
        _ => None,
    };
    let is_given = entry("app").is_some();
    nginx::Given {
        app: is_given,
        found_app: if is_given || has_server {
            None
        } else {
            is_found()
        },
        binds: binds.flat_map(|entry| entry.values.clone()).collect(),
        sockets: layers
            .iter()
            .flat_map(|layer| layer.sockets.clone())
            .collect(),
        hosts: layers
            .iter()
            .flat_map(|layer| layer.hosts.clone())
            .collect(),
        // Those of an application, which have its workers, and not another site.
        trusts: layers.iter().any(|layer| {
            let trust = layer
                .entry("trust")
                .filter(|_| layer.entry("workers").is_some());
            trust.is_some_and(|entry| matches!(entry.origin, SettingOrigin::Foreign { .. }))
        }),
        deadline: entry("request_timeout")
            .and_then(|entry| values::duration(entry.values.first()?).ok())
            .map(|time| time.as_secs())
            .filter(|seconds| *seconds > 0),
        is_dir,
        is_dir_here,
        has_headers: has_headers(layers),
        bad_passwords: &bad_passwords,
        variable,
    }
}

/// True if other settings than those of nginx's files have rules for the header fields of all responses.
fn has_headers(layers: &[&Layer]) -> bool {
    let is_of_nginx = |origin: &SettingOrigin| matches!(origin, SettingOrigin::Foreign { text, .. } if text.starts_with("add_header"));
    let mut entries = layers.iter().filter_map(|layer| layer.entry("header"));
    entries.any(|entry| !is_of_nginx(&entry.origin))
}

/// The entries of a password file that the start would refuse.
fn bad_passwords(path: &Path) -> Option<Vec<String>> {
    let (bytes, _) = htpasswd::read(path).ok()?;
    let (_, bad) = htpasswd::parse(&bytes);
    let texts = bad
        .into_iter()
        .map(|entry| format!("line {}: {}", entry.line, entry.problem));
    Some(texts.collect())
}

/// The words behind the name of the program, if that is `name`: a link of the name of another server takes its
/// command line.
pub fn called_as(name: &str) -> Option<Vec<String>> {
    let mut words = std::env::args_os();
    let program = PathBuf::from(words.next()?);
    let is_it = program.file_name()? == name;
    is_it.then(|| words.map(|word| native::text(&word)).collect())
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

/// The settings of a proxy's file and of the application behind it as one layer.
pub fn together(proxy: &Layer, application: &Layer) -> Layer {
    let mut all = proxy.clone();
    let mut weaker = application.clone();
    yield_to(&mut weaker, std::slice::from_ref(proxy));
    all.add(weaker);
    all
}

/// Removes what contradicts `stronger` layers, each of which has precedence as a whole.
pub fn yield_to(layer: &mut Layer, stronger: &[Layer]) {
    let sets = |name: &str| stronger.iter().any(|layer| layer.entry(name).is_some());
    let tables = || stronger.iter().flat_map(|layer| &layer.locations);
    let has_server = sets("uwsgi") || sets("upstream");
    if has_server || (tables().any(answers_all) && !tables().any(is_main)) {
        layer.remove("app");
    }
    if has_server {
        layer
            .locations
            .retain(|own| !answers_all(own) && !is_main(own));
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

/// True if the settings of a proxy leave requests to the application behind it.
pub fn passes_to_application(proxy: &Layer) -> bool {
    let has_server = proxy.entry("uwsgi").or(proxy.entry("upstream")).is_some();
    let answers = |table: &SettingsTable| {
        let is_part = ["static", "scheme"]
            .iter()
            .any(|name| table.entry(name).is_some());
        prefix(table) == "/" && !is_part
    };
    let tables = &proxy.locations;
    let has_main = tables.iter().any(is_main);
    proxy.entry("bind").is_some() && !has_server && (has_main || !tables.iter().any(answers))
}

/// True for the table of the application.
fn is_main(table: &SettingsTable) -> bool {
    value(table, "pass").is_some_and(|name| name == "@app")
}

/// True if the table answers all requests in the place of the application.
fn answers_all(table: &SettingsTable) -> bool {
    let is_part = ["static", "host"]
        .iter()
        .any(|name| table.entry(name).is_some());
    prefix(table) == "/" && !is_part && !is_main(table)
}

/// The requests that a table is for: its path or prefix, and its hosts.
fn place(table: &SettingsTable) -> (String, Vec<String>) {
    let hosts = table.entry("host").map(|entry| entry.values.clone());
    (prefix(table), hosts.unwrap_or_default())
}

/// The prefix of a table, or its path behind `=`, with its methods before it.
fn prefix(table: &SettingsTable) -> String {
    let methods = table.entry("method");
    let methods = methods.map(|entry| format!("[{}] ", entry.values.join(" ")));
    let segments = table.entry("segment");
    let segments = segments.map(|entry| format!(" /{}", entry.values.join(" /")));
    let (methods, segments) = (methods.unwrap_or_default(), segments.unwrap_or_default());
    format!("{methods}{}{segments}", path(table))
}

fn path(table: &SettingsTable) -> String {
    if let Some(path) = value(table, "path") {
        return format!("={path}");
    }
    if let Some(start) = value(table, "starts_with") {
        return format!("{start}*");
    }
    let given = value(table, "prefix").unwrap_or_default();
    if let Some(extensions) = table.entry("extension") {
        return format!("{given} .{}", extensions.values.join(" ."));
    }
    match given.trim_end_matches('/') {
        "" => "/".to_owned(),
        prefix => prefix.to_owned(),
    }
}

fn value(table: &SettingsTable, name: &str) -> Option<String> {
    table.entry(name)?.values.first().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_read_without_the_main_file_of_their_package() {
        let host = HostFacts::of_this_process();
        let around = Surroundings::of(&host, &Files::OF_THIS_MACHINE);
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("nginx.conf");
        let known: &[&Layer] = &[];
        let lines = |reading: &Reading| -> String {
            let lines = reading.lines.iter().map(Line::to_string);
            lines.collect::<Vec<_>>().join("\n")
        };
        let nothing = packaged_nginx(&main, known, &around);
        assert!(lines(&nothing).contains("the file is not here"));
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        let site = dir.path().join("conf.d/default.conf");
        std::fs::write(&site, "server { listen 8080; return 204; }").unwrap();
        let reading = packaged_nginx(&main, known, &around);
        let bind = reading.layer.entry("bind").map(|entry| &entry.values[..]);
        assert_eq!(bind, Some(&["0.0.0.0:8080".to_owned()][..]));
        let lines = lines(&reading);
        assert!(lines.contains("default.conf:1: listen 8080"), "{lines}");
        assert!(!lines.contains("nginx.conf:1"), "{lines}");
    }
}
