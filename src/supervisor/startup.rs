//! What a starting server says: one line per address at once, and one short block when
//! it is ready. On a pretty log it is plain text on stderr; on a JSON log, records.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pyserve_wire::control::{FoundFiles, Interpreter, Loaded, Preload};

use crate::config::locations::Handler;
use crate::config::{AppSettings, Config, ListenAddress, Location, LogFormat};
use crate::observe::timestamp::Timestamp;

/// Files counted in a static location before we say "more than".
const COUNT_LIMIT: usize = 100_000;

/// Facts that become known while the server starts.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The interpreter that runs.
    pub interpreter: Option<Interpreter>,
    /// How the interpreter was found.
    pub found: String,
    /// The application that was imported.
    pub loaded: Option<Loaded>,
    /// Why each worker imports for itself, where that was not asked for.
    pub unsafe_to_fork: Vec<String>,
}

/// Says that an address takes connections.
pub fn listening(format: LogFormat, address: &ListenAddress) {
    match format {
        LogFormat::Pretty => {
            eprintln!(
                "pyserve {} listening on {address}",
                env!("CARGO_PKG_VERSION")
            );
        }
        LogFormat::Json => tracing::info!(%address, "listening on {address}"),
    }
}

/// Says that every worker serves. May read directories: not for the front's threads.
pub fn ready(config: &Config, apps: &[(Arc<AppSettings>, Facts)], took: Duration) {
    let took = format!("{:.2} s", took.as_secs_f64());
    let lines = lines(config, apps);
    let block: String = lines
        .iter()
        .map(|(name, value)| format!("  {name:<9} {value}\n"))
        .collect();
    let block = format!("{block}ready in {took}");
    note(config, &block);
    match config.log_format {
        LogFormat::Pretty => eprintln!("{block}"),
        LogFormat::Json => {
            let facts: Vec<_> = lines
                .into_iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            tracing::info!(
                version = env!("CARGO_PKG_VERSION"),
                details = facts.join("; "),
                "ready in {took}"
            );
        }
    }
}

/// Appends to the start-up log that the server has ended before it was ready. Blocks.
pub fn note_failure(config: &Config, code: u8, last_words: &str) {
    note(
        config,
        &format!("not started, exit code {code}\n{last_words}"),
    );
}

/// Appends to the start-up log, if there is to be one. Blocks.
fn note(config: &Config, text: &str) {
    let Some(path) = &config.startup_log else {
        return;
    };
    let now = Timestamp::from(SystemTime::now()).rfc_3339();
    let entry = format!("{now} pyserve {}\n{text}\n", env!("CARGO_PKG_VERSION"));
    let mut file = OpenOptions::new();
    let written = file
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(entry.as_bytes()));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "cannot write the start-up log");
    }
}

fn lines(config: &Config, apps: &[(Arc<AppSettings>, Facts)]) -> Vec<(&'static str, String)> {
    let mut lines: Vec<_> = apps
        .iter()
        .enumerate()
        .flat_map(|(index, (settings, facts))| {
            let prefix = config.prefix_of(index);
            app_lines(settings, facts, (prefix != "/").then_some(prefix))
        })
        .collect();
    let found: Vec<_> = apps
        .iter()
        .flat_map(|(_, facts)| &facts.loaded)
        .flat_map(|loaded| &loaded.files)
        .collect();
    for files in &found {
        let count = count_files(Path::new(&files.dir));
        let (prefix, dir, source) = (&files.prefix, &files.dir, &files.source);
        lines.push((
            "static",
            format!("{prefix}/ -> {dir} ({count}, from Django's {source})"),
        ));
    }
    for location in &config.static_locations {
        let is_shown = |files: &&FoundFiles| {
            files.prefix == location.prefix && Path::new(&files.dir) == location.dir
        };
        if location.predefined && found.iter().any(is_shown) {
            continue;
        }
        let count = count_files(&location.dir);
        // That of the whole site is the slash alone.
        let prefix = location.prefix.trim_end_matches('/');
        lines.push((
            "static",
            format!("{prefix}/ -> {} ({count})", location.dir.display()),
        ));
    }
    // Applications have said more already.
    let is_app = |location: &&Location| matches!(location.handler, Handler::App(_));
    let others = config.locations.iter().filter(|location| !is_app(location));
    lines.extend(others.map(|location| ("location", location.to_string())));
    lines.push(("memory", memory(config.client_limits.memory)));
    lines
}

fn app_lines(
    settings: &AppSettings,
    facts: &Facts,
    prefix: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let app = &settings.app;
    let loaded = facts.loaded.clone().unwrap_or_default();
    let framework = match &*loaded.framework {
        "" => String::new(),
        framework => format!(" ({framework})"),
    };
    let found = app
        .found
        .as_ref()
        .map(|found| format!(", found: {found}"))
        .unwrap_or_default();
    let at = prefix.map_or(String::new(), |prefix| format!("{prefix} -> "));
    lines.push(("app", format!("{at}{}{framework}{found}", loaded.app)));
    lines.push(("chdir", settings.chdir.display().to_string()));
    if let Some(python) = &facts.interpreter {
        let venv = if python.is_venv {
            format!(", virtual environment {}", python.prefix)
        } else {
            String::new()
        };
        let found = &facts.found;
        lines.push((
            "python",
            format!(
                "{} {}{venv} (from {found})",
                python.version, python.executable
            ),
        ));
        let (count, threads) = (settings.workers.count, settings.threads);
        lines.push((
            "workers",
            format!(
                "{count} × {threads} {} ({})",
                plural("thread", threads),
                settings.workers.reason
            ),
        ));
        lines.push(("preload", preload(settings, facts)));
    }
    lines
}

fn preload(settings: &AppSettings, facts: &Facts) -> String {
    let took = facts.loaded.as_ref().map_or(0, |loaded| loaded.import_ms);
    match settings.preload {
        Preload::No => format!("no: each worker imports for itself ({took} ms)"),
        _ if !facts.unsafe_to_fork.is_empty() => format!(
            "no: each worker imports for itself ({took} ms), because importing left {}",
            facts.unsafe_to_fork.join(", ")
        ),
        _ => format!("yes: imported once in {took} ms, then forked"),
    }
}

fn memory(budget: usize) -> String {
    match budget >> 20 {
        mib if mib >= 1 << 40 => "no limit for what clients make the front hold".to_owned(),
        mib => format!("{mib} MiB for what clients make the front hold"),
    }
}

fn count_files(dir: &Path) -> String {
    let mut count = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(dir) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(_) => count += 1,
                Err(_) => {}
            }
            if count >= COUNT_LIMIT {
                return format!("more than {COUNT_LIMIT} files");
            }
        }
    }
    format!("{count} {}", plural("file", count as u32))
}

fn plural(word: &str, count: u32) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}
