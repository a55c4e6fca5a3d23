//! A link of the name `gunicorn` to the binary: it takes gunicorn's command line.
//!
//! The options are read with the settings ([`crate::config::foreign`]). This file finds those that
//! start no server: `--version`, `--help`, `--check-config` and `--print-config`.

use crate::config::foreign::gunicorn::switches;

/// The role of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Run the server.
    Serve,
    /// Import the application, print nothing, and end.
    Check,
    /// Show the settings, import the application, and end.
    Show,
    /// Print this.
    Answer(String),
}

const HELP: &str = "\
This is pyserve, called as gunicorn: it takes the command line of gunicorn, and serves HTTP itself.

  gunicorn mysite.wsgi:application -b 0.0.0.0:8000 -w 4 --timeout 60
  gunicorn -c gunicorn.conf.py mysite.wsgi
  gunicorn --check-config mysite.wsgi    import the application, and end
  gunicorn --print-config mysite.wsgi    show all settings with their origins as well

`pyserve explain \"gunicorn ...\"` shows the meaning of each option, `pyserve help` the manual.";

/// The role of these words, and of `GUNICORN_CMD_ARGS`.
pub fn role(words: &[String], variable: Option<&str>) -> Role {
    let has = |names: [&str; 2]| words.iter().any(|word| names.contains(&word.as_str()));
    if has(["-h", "--help"]) {
        return Role::Answer(HELP.to_owned());
    }
    if has(["-v", "--version"]) {
        let version = env!("CARGO_PKG_VERSION");
        return Role::Answer(format!("pyserve {version} as gunicorn"));
    }
    let names = switches(words, variable);
    let is_on = |name: &str| names.contains(&name);
    match (is_on("print_config"), is_on("check_config")) {
        (true, _) => Role::Show,
        (false, true) => Role::Check,
        (false, false) => Role::Serve,
    }
}
