//! Differences between the settings before and after a reload.

use crate::config::{Config, Resolved, StaticLocation};

/// Name of the companions' tables.
const COMPANION: &str = "companion";
/// Name of the tables with a certificate.
const CERTIFICATE: &str = "certificate";
/// Name of the setting whose files are kept in memory.
const ERROR_PAGE: &str = "error_page";
/// Names of the settings for all responses.
const OF_RULES: [&str; 3] = ["header", ERROR_PAGE, "intercept_errors"];
/// Name of the setting whose files have media types.
const TYPES_FILE: &str = "types_file";
/// Names of the settings for media types.
const OF_TYPES: [&str; 2] = ["types", TYPES_FILE];
/// Name of the setting whose directory another release has taken.
const CHDIR: &str = "chdir";

/// The reason why a reload fails that would end the only application: it was found, not named, and is
/// not found any more, as while its file is empty or the link to the release leads nowhere. A location
/// may take its place.
pub(crate) fn gone_application(before: &Config, after: &Config) -> Option<String> {
    let found = before.apps.iter().find_map(|settings| {
        let found = settings.app.found.as_deref()?;
        Some((found, settings.chdir.display()))
    });
    let has_successor = after.locations.iter().any(|at| at.prefix == "/");
    let (found, chdir) = found.filter(|_| after.apps.is_empty() && !has_successor)?;
    Some(format!(
        "the application that was found at the start is not there any more: {found} in {chdir} (restart the server to serve without an application)"
    ))
}

/// Names of the settings whose values differ, and of the kinds of tables that do.
pub(crate) fn differences(before: &Resolved, after: &Resolved) -> Vec<String> {
    let mut changed: Vec<_> = after
        .origins
        .iter()
        .filter(|(name, value, _)| {
            let mut old = before.origins.iter();
            !old.any(|(other, was, _)| other == name && was == value)
        })
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    let (before, after) = (&before.config, &after.config);
    if !after.release.moved_since(&before.release).is_empty()
        && !changed.contains(&CHDIR.to_owned())
    {
        changed.push(CHDIR.to_owned());
    }
    let are_same = before.locations == after.locations
        && named(before) == named(after)
        // Other changes have a name of their own.
        && (before.apps == after.apps && before.access == after.access || !changed.is_empty());
    if !are_same {
        changed.push("location".to_owned());
    }
    let rules = before.response_rules != after.response_rules;
    if rules && !changed.iter().any(|name| OF_RULES.contains(&&**name)) {
        // A page has another content.
        changed.push(ERROR_PAGE.to_owned());
    }
    // Those of a file may change while its name stays.
    let types = before.every_location.types != after.every_location.types;
    if types && !changed.iter().any(|name| OF_TYPES.contains(&&**name)) {
        changed.push(TYPES_FILE.to_owned());
    }
    let tables = |config: &Config| {
        config
            .https
            .tls
            .as_ref()
            .map(|tls| tls.certificates.clone())
    };
    let is_named = changed
        .iter()
        .any(|name| name.starts_with("tls_") || name.starts_with("acme") || name == "bind");
    if !is_named && tables(before) != tables(after) {
        changed.push(CERTIFICATE.to_owned());
    }
    if before.companions != after.companions {
        changed.push(COMPANION.to_owned());
    }
    changed
}

/// The static locations by the names of their directories in the settings.
fn named(config: &Config) -> Vec<StaticLocation> {
    let mut locations = config.static_locations.clone();
    for location in &mut locations {
        location.dir = config.release.name(&location.dir);
    }
    locations
}

/// True if requests are to be answered differently. Cached facts about files of a directory that
/// was replaced must not be used.
pub(crate) fn needs_site(before: &Resolved, after: &Resolved) -> bool {
    let is_elsewhere = before.config.physical_dirs != after.config.physical_dirs
        || before.config.static_locations != after.config.static_locations
        || before.config.internal_locations != after.config.internal_locations;
    is_elsewhere || !differences(before, after).is_empty()
}
