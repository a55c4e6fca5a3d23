//! Prestart scripts: a shell sources them, and executes pyserve again with the variables that they exported.
//!
//! The shell takes the place of this process and is replaced by the server in turn, so that process 1 of a
//! container stays process 1, and the current directory and the umask of the scripts stay as well. A failing
//! command of a script ends the start, as in the images that have such scripts (`set -e`).

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::config::environment::PRESTARTED;
use crate::config::error::invalid;
use crate::config::layers::Layer;
use crate::config::{self, ConfigError, HostFacts, native};
use crate::supervisor::signals;

/// Shells, the preferred one first: the images run such scripts with bash.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Sources the scripts that the settings name. Returns if there are none, or if they have been sourced.
///
/// # Errors
/// [`ConfigError`] for a script that is not there, or the error of executing the shell.
pub fn source(flags: &Layer) -> anyhow::Result<()> {
    let host = HostFacts::of_this_process();
    let own = std::process::id().to_string();
    if host.environment.raw(PRESTARTED).as_deref() == Some(&own) {
        return Ok(());
    }
    // A mistake in the settings is reported where they are resolved.
    let Ok(files) = config::prestart(flags.clone(), &host) else {
        return Ok(());
    };
    if files.is_empty() {
        return Ok(());
    }
    let ignored: Vec<_> = signals::ignored_at_start()
        .map(|number| number.to_string())
        .collect();
    let ignored = ignored.join(" ");
    // A shell without a trap ends by these signals, also as process 1: bash handles them to run the trap of its
    // exit. Commands of the scripts get the default actions, which `trap ''` would deny them.
    let mut script = format!("trap : {ignored}\n{BEGIN}").into_bytes();
    for file in files {
        let path = host.current_dir.join(native::path(&file));
        if !path.is_file() {
            return Err(missing(&file, &path).into());
        }
        script.extend_from_slice(b". ");
        quote(path.as_os_str().as_bytes(), &mut script);
        script.push(b'\n');
    }
    script.extend_from_slice(END.as_bytes());
    // The server begins with these signals ignored, until it handles them.
    script.extend_from_slice(format!("trap '' {ignored}\n").as_bytes());
    script.extend_from_slice(b"exec");
    for word in std::env::args_os() {
        script.push(b' ');
        quote(word.as_bytes(), &mut script);
    }
    script.push(b'\n');
    let shell = SHELLS.iter().find(|shell| Path::new(shell).exists());
    let shell = shell.unwrap_or(&SHELLS[1]);
    let script = std::ffi::OsStr::from_bytes(&script);
    let error = Command::new(shell)
        .arg("-c")
        .arg(script)
        .arg("prestart")
        .exec();
    Err(anyhow::Error::new(error).context(format!("cannot source prestart scripts with {shell}")))
}

/// SIGTERM ends the start behind the command that runs; process 1 would ignore it. 5 is the code of a failing
/// `before_start`.
const BEGIN: &str = r#"trap 'exit 143' TERM
trap 'exit 130' INT
trap 'code=$?; if [ $code -ne 0 ] && [ $code -lt 128 ]; then echo "pyserve: the prestart script failed with exit code $code" >&2; exit 5; fi' EXIT
set -e
"#;
const END: &str = r#"set +e
trap - TERM INT EXIT
export PYSERVE_PRESTARTED=$$
"#;

fn missing(file: &str, path: &Path) -> ConfigError {
    let invalid = invalid(
        format!("there is no file {}", path.display()),
        "give an existing one",
    );
    ConfigError::Value {
        place: format!("prestart {}", native::shown(file)),
        problem: invalid.problem,
        remedy: invalid.remedy,
    }
}

/// Adds a word in single quotes.
fn quote(word: &[u8], script: &mut Vec<u8>) {
    script.push(b'\'');
    for byte in word {
        match byte {
            b'\'' => script.extend_from_slice(b"'\\''"),
            byte => script.push(*byte),
        }
    }
    script.push(b'\'');
}
