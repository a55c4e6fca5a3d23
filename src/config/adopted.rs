//! The command line of uWSGI that a running server adopts: `uwsgi ...` called beside the server of an image
//! hands its words over, and the next reading of the settings takes them for the server's own.
//!
//! [`crate::uwsgi_link`] decides when, [`crate::supervisor::reload`] carries it out. Stronger sources, such as
//! the variables of the image, stay stronger.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::foreign::secrets;
use super::layers::{Layer, SettingOrigin};
use super::{HostFacts, native, settings};
use crate::os::access::{AccessKind, obstacle};

/// A command line of uWSGI, with the directory in which it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The words behind the name of the program, as [`native::text`].
    pub words: Vec<String>,
    /// The directory to which its paths are relative, as [`native::text`]; absolute.
    pub directory: String,
}

impl fmt::Display for CommandLine {
    /// `uwsgi --ini=/etc/uwsgi/uwsgi.ini`, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = secrets::masked(&self.words.join(" "));
        write!(f, "{}", native::shown(format!("uwsgi {words}").trim_end()))
    }
}

impl CommandLine {
    /// The facts of a server that was started by this command line.
    pub fn applied_to(&self, mut host: HostFacts) -> HostFacts {
        host.uwsgi_command_line = Some(self.words.clone());
        host.uwsgi_directory = Some(native::path(&self.directory));
        host.gunicorn_command_line = None;
        host
    }
}

/// Makes a directory that a command line names, or means by naming none, one below `directory`: that of the
/// command line. One that this process may not enter, such as the home of root, is not meant.
pub fn settle_directory(layer: &mut Layer, directory: &Path) {
    let Some(setting) = settings::named("chdir") else {
        return;
    };
    let given = layer.entry("chdir").cloned();
    let (dir, origin) = match &given {
        Some(entry) => {
            let dir = entry.values.first().map(|dir| native::path(dir));
            (
                directory.join(dir.unwrap_or_default()),
                entry.origin.clone(),
            )
        }
        None if obstacle(directory, AccessKind::Search).is_some() => return,
        None => {
            let origin = SettingOrigin::Foreign {
                place: "the directory of the command".to_owned(),
                text: "uwsgi".to_owned(),
            };
            (directory.to_owned(), origin)
        }
    };
    layer.insert(setting, vec![native::text(dir.as_os_str())], origin);
}
