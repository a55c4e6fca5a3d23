//! The output of `pyserve check`: settings that differ from the defaults, the defaults, the
//! locations, and facts about each application.

use std::io;
use std::time::SystemTime;

use pyserve_wire::control::Preload;

use crate::config::acme::AcmeSettings;
use crate::config::settings::{self, Setting};
use crate::config::{Resolved, StaticLocation};
use crate::front::acme::{shown, store};
use crate::front::tls::certificates::Certificates;
use crate::os::identity;
use crate::supervisor::startup::{self, StartupFacts};
use crate::verbs::{acme_line, print};

/// Prints the settings and the locations that follow from them.
///
/// # Errors
/// The error of the system call for standard output.
pub fn settings(resolved: &Resolved) -> io::Result<()> {
    let (defaults, set): (Vec<_>, Vec<_>) = resolved
        .origins
        .iter()
        .partition(|(_, _, origin)| origin == "default");
    for (heading, rows) in [
        ("# differs from the defaults", set),
        ("\n# defaults", defaults),
    ] {
        print(heading)?;
        for (name, value, origin) in rows {
            let value = settings::named(name)
                .map_or_else(|| value.clone(), |setting| for_people(setting, value));
            print(&format!("{name:<24} {value:<32} {origin}"))?;
        }
    }
    print("\n# locations and companions")?;
    for line in resolved.config.location_lines() {
        row("location", &line)?;
    }
    let is_shown = |location: &&StaticLocation| location.predefined && location.dir.is_dir();
    for location in resolved.config.static_locations.iter().filter(is_shown) {
        let dir = location.dir.display();
        row(
            "location",
            &format!("{} -> files in {dir}, by its name", location.prefix),
        )?;
    }
    for companion in &resolved.config.companions {
        row("companion", &companion.to_string())?;
    }
    Ok(())
}

/// Prints names and validity of the certificates.
///
/// # Errors
/// The error of the system call for standard output.
pub fn certificates(certificates: &Certificates) -> io::Result<()> {
    let now = SystemTime::now();
    for pair in certificates.pairs() {
        let (file, names, validity) = (pair.cert.display(), pair.names(), pair.validity(now));
        row("certificate", &format!("{names}: {validity} ({file})"))?;
    }
    Ok(())
}

/// Prints the state of the certificates that ACME gets, and where it gets them.
///
/// # Errors
/// The error of the system call for standard output.
pub fn acme(settings: &AcmeSettings) -> io::Result<()> {
    let (directory, dir) = (&settings.directory, settings.dir.display());
    let by = settings.challenge.as_str();
    row("acme", &format!("{directory} by {by}, in {dir}"))?;
    // A missing one is created at the start.
    if settings.dir.exists()
        && let Err(error) = store::try_directory(&settings.dir)
    {
        row("acme", &error.to_string())?;
    }
    for certificate in shown::report(settings) {
        row("acme", &acme_line(&certificate))?;
    }
    Ok(())
}

/// Prints the facts about the application at `prefix` after its import.
///
/// # Errors
/// The error of the system call for standard output.
pub fn application(prefix: &str, preload: Preload, facts: &StartupFacts) -> io::Result<()> {
    let (Some(python), Some(loaded)) = (&facts.interpreter, &facts.loaded) else {
        return Ok(());
    };
    let venv = match python.is_venv {
        true => format!(", virtual environment {}", python.prefix),
        false => ", no virtual environment".to_owned(),
    };
    print("")?;
    row(
        "python",
        &format!(
            "{} {}{venv} (from {})",
            python.version, python.executable, facts.found
        ),
    )?;
    let framework = match &*loaded.framework {
        "" => String::new(),
        framework => format!(" ({framework})"),
    };
    row(
        "application",
        &format!(
            "{prefix} -> {}{framework}, imported in {} ms",
            loaded.app, loaded.import_ms
        ),
    )?;
    row("preloading", &startup::preload(preload, facts))?;
    for files in &loaded.files {
        let (prefix, dir, source) = (&files.prefix, files.dir.display(), &files.source);
        row(
            "location",
            &format!("{prefix} -> files in {dir}, from Django's {source}"),
        )?;
    }
    Ok(())
}

fn row(name: &str, text: &str) -> io::Result<()> {
    print(&format!("{name:<24} {text}"))
}

/// A value with its unit, or the meaning of a zero.
fn for_people(setting: &Setting, value: &str) -> String {
    if let ("control", Some((before, ""))) = (setting.name, value.split_once("UID")) {
        return format!("{before}{}", identity::own().0);
    }
    let is_never = ["max_requests", "max_worker_lifetime", "refork"].contains(&setting.name);
    if value == "0" && is_never {
        return "never".to_owned();
    }
    let (number, rest) = value.split_at(value.find([',', ' ']).unwrap_or(value.len()));
    let is_number = !number.is_empty()
        && number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let unit = match setting.value_name {
        _ if !is_number => return value.to_owned(),
        name if name.ends_with("TIME") => "s",
        "BYTES|no" => "bytes/s",
        "BYTES" => "bytes",
        _ => return value.to_owned(),
    };
    match (number, setting.name) {
        // No limit; see the table of options.
        (
            "0",
            "request_timeout"
            | "max_body"
            | "max_spool"
            | "max_response_spool"
            | "response_spool_total",
        ) => "no limit".to_owned(),
        _ => format!("{number} {unit}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units() {
        let check = |name: &str, value: &str, expected: &str| {
            let setting = settings::named(name).unwrap();
            assert_eq!(for_people(setting, value), expected, "{name}");
        };
        check("keepalive_timeout", "75", "75 s");
        check("keepalive_timeout", "500ms", "500ms");
        check(
            "static_max_age",
            "60, and 0 for HTML",
            "60 s, and 0 for HTML",
        );
        check("request_timeout", "0", "no limit");
        check("max_requests", "0", "never");
        check("max_requests", "7", "7");
        check("min_body_rate", "240", "240 bytes/s");
        check("max_body", "100M", "100M");
        check("max_body", "1048576", "1048576 bytes");
        check("workers", "4", "4");
    }
}
