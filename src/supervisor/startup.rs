//! Messages of a starting server: the start itself at once, then the listen addresses and one short
//! block when it is ready. Plain text on stderr for a pretty log, records for a JSON log.

pub mod detached;
pub mod log;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyserve_wire::control::{FoundFiles, Interpreter, Loaded, Preload};

use crate::config::locations::Handler;
use crate::config::{AppSettings, Config, ListenAddress, Location, LogFormat};
use crate::front::upstream::workers::most_memory;
use crate::observe::diagnostics::say;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Files counted in a static location; above, the message is "more than".
const COUNT_LIMIT: usize = 100_000;
/// Longest time by which counting may delay the message that the server is ready.
const COUNT_TIME: Duration = Duration::from_secs(2);

/// Facts that become known while the server starts.
#[derive(Debug, Clone, Default)]
pub struct StartupFacts {
    /// The interpreter that runs.
    pub interpreter: Option<Interpreter>,
    /// The source that named the interpreter.
    pub found: String,
    /// The application that was imported.
    pub loaded: Option<Loaded>,
    /// Reasons why each worker imports for itself although the settings allow preloading.
    pub unsafe_to_fork: Vec<String>,
}

/// Reports that an address is bound: connections to it wait for the application.
pub fn bound(format: LogFormat, address: &ListenAddress) {
    match format {
        LogFormat::Pretty => say(&format!("pyserve {VERSION} starting on {address}")),
        LogFormat::Json => tracing::info!(%address, "starting on {address}"),
    }
}

/// Reports the listen addresses.
pub fn listening(format: LogFormat, addresses: &[ListenAddress]) {
    for address in addresses {
        match format {
            LogFormat::Pretty => say(&format!("pyserve {VERSION} listening on {address}")),
            LogFormat::Json => tracing::info!(%address, "listening on {address}"),
        }
    }
}

/// A note for an address of every interface: Django's `runserver 8000` is the loopback interface,
/// our `--bind 8000` is not.
fn reach(address: &ListenAddress) -> Option<(&'static str, String)> {
    let (tcp, scheme) = match address {
        ListenAddress::Tcp(tcp) => (tcp, ""),
        ListenAddress::Tls(tcp) => (tcp, "https://"),
        ListenAddress::Unix(_) => return None,
    };
    let port = tcp.port();
    let text = format!(
        "{address} is every interface: other machines may connect (--bind {scheme}127.0.0.1:{port} for local connections only)"
    );
    tcp.ip().is_unspecified().then_some(("bind", text))
}

/// Reports that every worker is ready. May read directories: not for the front's threads.
pub fn ready(
    config: &Config,
    addresses: &[ListenAddress],
    apps: &[(Arc<AppSettings>, StartupFacts)],
    took: Duration,
) {
    let took = format!("{:.2} s", took.as_secs_f64());
    let mut lines = lines(config, apps);
    lines.extend(addresses.iter().filter_map(reach));
    let block: String = lines
        .iter()
        .map(|(name, value)| format!("  {name:<9} {value}\n"))
        .collect();
    let block = format!("{block}ready in {took}");
    let listening: String = addresses
        .iter()
        .map(|address| format!("listening on {address}\n"))
        .collect();
    log::note(config, &format!("{listening}{block}"));
    match config.log_format {
        LogFormat::Pretty => say(&block),
        LogFormat::Json => {
            let facts: Vec<_> = lines
                .into_iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            tracing::info!(
                version = VERSION,
                details = facts.join("; "),
                "ready in {took}"
            );
        }
    }
}

fn lines(
    config: &Config,
    apps: &[(Arc<AppSettings>, StartupFacts)],
) -> Vec<(&'static str, String)> {
    let mut lines: Vec<_> = apps
        .iter()
        .enumerate()
        .flat_map(|(index, (settings, facts))| {
            let prefix = config.place_of(index);
            app_lines(settings, facts, (prefix != "/").then_some(&prefix))
        })
        .collect();
    let count_until = Instant::now() + COUNT_TIME;
    let count = |dir: &Path| {
        let (dir, left) = (dir.to_owned(), count_until - Instant::now());
        let count = detached::within(left, move || count_files(&dir));
        count.unwrap_or_else(|| "too slow to count".to_owned())
    };
    let found: Vec<_> = apps
        .iter()
        .flat_map(|(_, facts)| &facts.loaded)
        .flat_map(|loaded| &loaded.files)
        .collect();
    for files in &found {
        let count = count(&files.dir);
        let (prefix, dir, source) = (&files.prefix, files.dir.display(), &files.source);
        lines.push((
            "static",
            format!("{prefix}/ -> {dir} ({count}, from Django's {source})"),
        ));
    }
    for location in &config.static_locations {
        let is_shown =
            |files: &&FoundFiles| files.prefix == location.prefix && files.dir == location.dir;
        if location.predefined && found.iter().any(is_shown) {
            continue;
        }
        let (place, dir) = (location.place(), location.dir.display());
        let line = match &location.file {
            Some(name) => format!("{place} -> {dir}/{name}"),
            None => {
                // The prefix of the whole site is a single slash.
                let place = place.trim_end_matches('/');
                format!("{place}/ -> {dir} ({})", count(&location.dir))
            }
        };
        lines.push(("static", line));
    }
    // Applications have lines of their own.
    let is_app = |location: &&Location| matches!(location.handler, Handler::App(_));
    let others = config.locations.iter().filter(|location| !is_app(location));
    lines.extend(others.map(|location| ("location", location.to_string())));
    let threads = apps.iter().map(|(settings, _)| {
        let workers = settings.workers.count.max(settings.workers.most);
        workers as usize * settings.threads as usize
    });
    let shared = threads.map(most_memory).sum();
    lines.push(("memory", memory(config.client_limits.memory, shared)));
    lines
}

fn app_lines(
    settings: &AppSettings,
    facts: &StartupFacts,
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
        let (workers, threads) = (&settings.workers, settings.threads);
        let count = match workers.most > workers.count {
            true => format!("{} to {}", workers.count, workers.most),
            false => workers.count.to_string(),
        };
        let though = match workers.is_auto && !facts.unsafe_to_fork.is_empty() {
            true if workers.most > workers.count => {
                "; none is added, because each imports for itself"
            }
            _ => "",
        };
        lines.push((
            "workers",
            format!(
                "{count} × {threads} {} ({}{though})",
                plural("thread", threads),
                workers.reason
            ),
        ));
        lines.push(("preload", preload(settings.preload, facts)));
    }
    lines
}

/// The line about preloading: used or not, and the reason.
pub fn preload(preload: Preload, facts: &StartupFacts) -> String {
    let took = facts.loaded.as_ref().map_or(0, |loaded| loaded.import_ms);
    match preload {
        Preload::No => format!("no: each worker imports for itself ({took} ms)"),
        _ if !facts.unsafe_to_fork.is_empty() => format!(
            "no: each worker imports for itself ({took} ms), because importing left {}",
            facts.unsafe_to_fork.join(", ")
        ),
        _ => {
            let shared = facts
                .loaded
                .as_ref()
                .map_or(&[][..], |loaded| &loaded.shared);
            let though = match shared {
                [] => String::new(),
                left => format!(", although importing left {}", left.join(", ")),
            };
            format!("yes: imported once in {took} ms, then forked{though}")
        }
    }
}

/// The memory budget, and the part of it that is shared with workers at most.
fn memory(budget: usize, shared: usize) -> String {
    let budget = match budget >> 20 {
        mib if mib >= 1 << 40 => "no limit".to_owned(),
        mib => format!("{mib} MiB"),
    };
    let part = match shared.div_ceil(1 << 20) {
        0 => String::new(),
        mib => format!(", of these up to {mib} MiB shared with workers"),
    };
    format!("{budget} for buffers of clients{part}")
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
