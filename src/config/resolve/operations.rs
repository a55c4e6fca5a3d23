//! Settings of the control socket and the admin listener, and how a verb finds the server.

use std::path::{Path, PathBuf};

use super::{Resolver, single};
use crate::config::error::{ConfigError, invalid};
use crate::config::layers::Layer;
use crate::config::{Control, ControlTarget, HostFacts, ListenAddress, native};

/// Finds the control socket by the same settings as the server itself. Nothing else is looked at: a
/// verb works where the application is missing or its settings are wrong. `mistake`: the first
/// error in the settings file.
///
/// # Errors
/// [`ConfigError`] for a setting that cannot be used.
pub fn reach(
    layers: &[Layer],
    surroundings: &HostFacts,
    mistake: Option<&ConfigError>,
) -> Result<ControlTarget, ConfigError> {
    let mut resolver = Resolver {
        layers,
        surroundings,
        shown: Default::default(),
        warnings: Vec::new(),
    };
    let chdir = resolver.chdir()?;
    let temp_dir = resolver.temp_dir(&chdir)?;
    Ok(ControlTarget {
        control: resolver.control(&chdir, &temp_dir)?,
        admin: resolver.admin(&chdir)?,
        // A user that is unknown here runs no server here.
        user: resolver.run_as().ok().flatten().map(|user| user.uid),
        chdir,
        mistake: mistake.map(ConfigError::to_string),
    })
}

impl Resolver<'_> {
    pub(super) fn admin(&mut self, chdir: &Path) -> Result<Option<ListenAddress>, ConfigError> {
        let admin = self.optional("admin", |text| match text {
            "off" | "no" | "false" => Ok(None),
            text => match ListenAddress::parse(text, chdir)? {
                ListenAddress::Tls(address) => Err(invalid(
                    "the admin listener has no TLS",
                    format!("give {address}"),
                )),
                address => Ok(Some(address)),
            },
        })?;
        if admin.is_none() {
            self.show_default("admin", "off".to_owned());
        }
        Ok(admin.flatten())
    }

    /// A file that the server makes, such as that with the process id; `None`: it makes none.
    pub(super) fn file(
        &mut self,
        name: &'static str,
        chdir: &Path,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let file = self.optional(name, |text| match text {
            "" => Err(invalid("no path", "give one, as in `/run/site`")),
            text => Ok(chdir.join(native::path(text))),
        })?;
        if file.is_none() {
            self.show_default(name, "none".to_owned());
        }
        Ok(file)
    }

    pub(super) fn control(
        &mut self,
        chdir: &Path,
        temp_dir: &Path,
    ) -> Result<Control, ConfigError> {
        if let Some(entry) = self.entry("control") {
            let control = single("control", entry, |text| match text {
                "off" | "no" | "false" => Ok(Control::Off),
                "" => Err(invalid("no path", "give one, or `off`")),
                text => {
                    let path = text.strip_prefix("unix:").unwrap_or(text);
                    match ListenAddress::parse(&format!("unix:{path}"), chdir)? {
                        ListenAddress::Unix(path) => Ok(Control::At(path)),
                        ListenAddress::Tcp(_) | ListenAddress::Tls(_) => {
                            Err(invalid("no path", "give one, or `off`"))
                        }
                    }
                }
            })?;
            let (value, origin) = (entry.values.join(" "), entry.origin.to_string());
            self.show("control", value, origin);
            return Ok(control);
        }
        let runtime_dir = self.surroundings.environment.variable("XDG_RUNTIME_DIR");
        let runtime_dir = runtime_dir
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute());
        let shown = match &runtime_dir {
            Some(dir) => format!("below {}/pyserve", dir.display()),
            None => format!("below {}/pyserve-UID", temp_dir.display()),
        };
        self.show_default("control", shown);
        Ok(Control::Usual {
            runtime_dir,
            temp_dir: temp_dir.to_owned(),
        })
    }
}
