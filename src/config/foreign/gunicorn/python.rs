//! The interpreter of the application, before the settings are resolved.

use std::path::PathBuf;

use super::evaluation::{Evaluator, User};
use crate::config::error::ConfigError;
use crate::config::interpreter::{Places, PythonChoice};
use crate::config::layers::Layer;
use crate::config::resolve::identity;
use crate::config::{HostFacts, native};
use crate::os::identity::groups;

/// The evaluator that uses the interpreter which `layers`, or else the surroundings, choose, as the
/// user of the server.
///
/// # Errors
/// [`ConfigError::NoPython`] if there is none.
pub fn evaluator(layers: &[&Layer], host: &HostFacts) -> Result<Evaluator, ConfigError> {
    let value = |layer: &Layer, name: &str| {
        let entry = layer.entry(name)?;
        entry
            .values
            .first()
            .map(|value| (value.clone(), entry.origin.to_string()))
    };
    let chdir = layers.iter().find_map(|layer| value(layer, "chdir"));
    let chdir = match chdir {
        Some((dir, _)) => host.current_dir.join(native::path(&dir)),
        None => host.current_dir.clone(),
    };
    let places = Places {
        chdir: &chdir,
        executable: host.executable.as_deref(),
        virtual_env: host.environment.variable("VIRTUAL_ENV"),
        path: host.environment.variable("PATH"),
    };
    let named = layers.iter().find_map(|layer| {
        let python = value(layer, "python");
        let venv = value(layer, "venv");
        match (python, venv) {
            (Some((name, origin)), _) => Some(PythonChoice::python(&name, &origin, &places)),
            (None, Some((dir, origin))) => Some(PythonChoice::venv(&dir, &origin, &places)),
            (None, None) => None,
        }
    });
    let choice = named.unwrap_or_else(|| PythonChoice::automatic(&places));
    let python: PathBuf = choice.find()?.path;
    let first = |name| Some(layers.iter().find_map(|layer| value(layer, name))?.0);
    // A user that does not exist ends the start when the settings are resolved.
    let gid = first("gid").and_then(|text| identity::group(&text).ok());
    let user = first("uid").and_then(|text| identity::run_as(&text, gid).ok());
    Ok(Evaluator {
        user: user.map(|user| User {
            uid: user.uid,
            gid: user.gid,
            groups: groups(user.name.as_deref(), user.gid),
        }),
        python,
        directory: host.current_dir.clone(),
    })
}
