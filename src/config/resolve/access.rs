//! Access to locations: by network, and by the users of a password file.

use std::io;
use std::path::Path;

use super::tables::Given;
use super::{Resolver, listed_choice, single, wrong};
use crate::config::access::{AccessRules, AccessSettings, BasicAuth, Satisfy};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::SettingEntry;
use crate::config::{RunAs, htpasswd, native};
use crate::os::access::{AccessKind, obstacle};
use crate::os::identity;

/// Lines of a password file that one error names.
const MOST_NAMED: usize = 3;

impl Resolver<'_> {
    /// The access to locations without settings of their own, then that of each table.
    pub(super) fn access(
        &mut self,
        tables: &[Given<'_>],
        chdir: &Path,
        server: Option<&RunAs>,
    ) -> Result<Vec<AccessSettings>, ConfigError> {
        let at = Place { chdir, server };
        for name in ["access", "basic_auth", "basic_auth_realm", "satisfy"] {
            match self
                .entry(name)
                .map(|entry| (entry.values.join(" "), entry.origin.to_string()))
            {
                Some((value, origin)) => self.show(name, value, origin),
                None => {
                    let default = match name {
                        "access" => "all clients",
                        "basic_auth" => "off",
                        "basic_auth_realm" => REALM,
                        _ => "all",
                    };
                    self.show_default(name, default.to_owned());
                }
            }
        }
        let found = |name: &str| self.entry(name);
        let general = Parts::default().with(found, str::to_owned, at)?;
        let mut all = vec![general.settings()];
        for given in tables {
            let found = |name: &str| given.entry(name);
            let own = general.clone().with(found, super::tables::spelled, at)?;
            all.push(own.settings());
        }
        Ok(all)
    }
}

/// The name that clients show, if the settings give none.
const REALM: &str = "Restricted";

/// The directory of password files, and the user as whom the server will read them.
#[derive(Clone, Copy)]
struct Place<'a> {
    chdir: &'a Path,
    server: Option<&'a RunAs>,
}

impl Place<'_> {
    /// Reads with the rights that the server will have.
    fn as_the_server<T>(&self, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.server {
            Some(user) if identity::own().0 == 0 && user.uid != 0 => {
                identity::acting_as(user.uid, user.gid, read)?
            }
            _ => read(),
        }
    }
}

/// Each setting by itself: a location inherits those that it does not have.
#[derive(Clone, Default)]
struct Parts {
    rules: AccessRules,
    file: Option<std::path::PathBuf>,
    realm: Option<String>,
    satisfy: Satisfy,
}

impl Parts {
    fn settings(&self) -> AccessSettings {
        AccessSettings {
            rules: self.rules.clone(),
            basic_auth: self.file.clone().map(|file| BasicAuth {
                file,
                realm: self.realm.clone().unwrap_or_else(|| REALM.to_owned()),
            }),
            satisfy: self.satisfy,
        }
    }

    fn with<'e>(
        mut self,
        found: impl Fn(&str) -> Option<&'e SettingEntry>,
        spelled: impl Fn(&str) -> String,
        at: Place<'_>,
    ) -> Result<Self, ConfigError> {
        if let Some(entry) = found("access") {
            let text = entry.values.join(" ");
            self.rules = AccessRules::parse(&text)
                .map_err(|invalid| wrong(&spelled("access"), &text, &entry.origin, invalid))?;
        }
        if let Some(entry) = found("basic_auth") {
            let name = spelled("basic_auth");
            let refuse = |text: &str, invalid| wrong(&name, text, &entry.origin, invalid);
            for text in &entry.values {
                // A table in `pyserve.toml` has pairs.
                let file = match text.split_once('=') {
                    Some(("realm", text)) => {
                        self.realm = Some(realm(text).map_err(|invalid| refuse(text, invalid))?);
                        continue;
                    }
                    Some(("file", file)) => file,
                    _ if entry.values.len() > 1 => {
                        let remedy = "give `{ file = \"…\", realm = \"…\" }`";
                        return Err(refuse(text, invalid("neither `file` nor `realm`", remedy)));
                    }
                    _ => text,
                };
                self.file = password_file(file, at).map_err(|invalid| refuse(file, invalid))?;
            }
        }
        if let Some(entry) = found("basic_auth_realm") {
            self.realm = Some(single(&spelled("basic_auth_realm"), entry, realm)?);
        }
        if let Some(entry) = found("satisfy") {
            self.satisfy = single(&spelled("satisfy"), entry, |text| {
                let choices = [("all", Satisfy::All), ("any", Satisfy::Any)];
                listed_choice(text, &choices, 2)
            })?;
        }
        Ok(self)
    }
}

/// RFC 7617 §2 has a quoted string: without the two characters that need an escape, which some
/// clients do not know.
fn realm(text: &str) -> Result<String, Invalid> {
    match text.is_empty()
        || text
            .chars()
            .any(|c| c.is_control() || matches!(c, '"' | '\\'))
    {
        true => Err(invalid(
            "no name that a client can show",
            "give one without quotes, backslashes and control characters",
        )),
        false => Ok(text.to_owned()),
    }
}

/// The absolute path of a password file, all lines of which can be used; `None` for `off`.
fn password_file(text: &str, at: Place<'_>) -> Result<Option<std::path::PathBuf>, Invalid> {
    if matches!(text, "off" | "no" | "false") {
        return Ok(None);
    }
    if text.is_empty() || text == "true" {
        return Err(invalid("no file", "give a password file, or `off`"));
    }
    let path = at.chdir.join(native::path(text));
    let shown = path.display();
    let read = at.as_the_server(|| htpasswd::read(&path));
    let bytes = read.map_err(|error| {
        let problem = match obstacle(&path, AccessKind::Read) {
            Some(obstacle) => format!("cannot read {shown}: {obstacle}"),
            None => format!("cannot read {shown}: {error}"),
        };
        let remedy = "give a file that `htpasswd -B` has made, readable for the user that the server runs as";
        invalid(problem, remedy)
    })?;
    let (_, bad) = htpasswd::parse(&bytes.0);
    if bad.is_empty() {
        return Ok(Some(path));
    }
    let mut named: Vec<_> = bad
        .iter()
        .take(MOST_NAMED)
        .map(ToString::to_string)
        .collect();
    if bad.len() > MOST_NAMED {
        named.push(format!("and {} more lines", bad.len() - MOST_NAMED));
    }
    Err(invalid(
        format!(
            "{shown} has entries that cannot be used: {}",
            named.join("; ")
        ),
        "correct or remove them",
    ))
}
