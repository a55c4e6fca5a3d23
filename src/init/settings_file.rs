//! The text of a `pyserve.toml`: lines for the project, and common settings as comments with their help.

use std::fmt::Write as _;

use super::project::{Project, Site};
use crate::config::foreign::equivalent;
use crate::config::layers::{Layer, SettingOrigin};
use crate::config::settings::{self, Setting};

/// Settings that many sites change, with an example.
const COMMON: [(&str, &str); 10] = [
    ("bind", "127.0.0.1:8000"),
    ("workers", "2..8"),
    ("threads", "4"),
    ("request_timeout", "60"),
    ("max_body", "100M"),
    ("trust", "10.0.0.0/8"),
    ("graceful_timeout", "30"),
    ("admin", "127.0.0.1:9000"),
    ("access_log", "combined"),
    ("static", "/media=media"),
];

/// Width of a comment.
const WIDTH: usize = 96;

/// The file. Settings of the command line are lines of it.
pub fn text(project: &Project, flags: &Layer) -> String {
    let mut text = format!(
        "# Settings of pyserve for this directory: {}.\n\
         # `pyserve check` shows every setting with its origin, `pyserve help OPTION` explains one.\n",
        project.found
    );
    for (file, server) in &project.servers {
        let _infallible = writeln!(
            text,
            "# {file} is a file of {server}: `pyserve explain {file}` shows its settings for this file."
        );
    }
    let mut lines = Lines {
        text,
        flags,
        written: Vec::new(),
    };
    if let Some(chdir) = &project.chdir {
        lines.active("chdir", chdir);
    }
    match &project.site {
        Site::Django {
            app,
            has_manage,
            has_media_root,
            ..
        } => {
            lines.active("app", app);
            if *has_manage {
                lines.commented("before_start", "python manage.py migrate --noinput");
            }
            if *has_media_root {
                lines.commented("django_media", "yes");
            }
        }
        Site::Wsgi {
            app, static_folder, ..
        } => {
            lines.active("app", app);
            if let Some(folder) = static_folder {
                lines.active("static", &format!("/static={folder}"));
                lines.active("static_missing", "/static=app");
            }
        }
        Site::Files(pages) => lines.active("static", &format!("/={pages}")),
    }
    for setting in settings::all() {
        if setting.is_for_file() && flags.entry(setting.name).is_some() {
            lines.active(setting.name, "");
        }
    }
    for (name, example) in COMMON {
        lines.commented(name, example);
    }
    if let Some(module) = &project.celery {
        lines.companion(module);
    }
    lines.text
}

/// The text so far, and the settings in it.
struct Lines<'a> {
    text: String,
    flags: &'a Layer,
    written: Vec<&'static str>,
}

impl Lines<'_> {
    /// A line in force; the command line has precedence over `value`.
    fn active(&mut self, name: &str, value: &str) {
        self.setting(name, value, "");
    }

    /// An example, as a comment; the line of the command line, if it has one.
    fn commented(&mut self, name: &str, example: &str) {
        self.setting(name, example, "# ");
    }

    fn setting(&mut self, name: &str, value: &str, mark: &str) {
        let Some(setting) = settings::named(name) else {
            return;
        };
        if self.written.contains(&setting.name) {
            return;
        }
        self.written.push(setting.name);
        let given = self.flags.entry(name);
        let values = match given {
            Some(entry) => entry.values.clone(),
            None => vec![value.to_owned()],
        };
        let mark = if given.is_some() { "" } else { mark };
        let line = assignment(setting, values);
        let help = match mark {
            "" => wrapped(setting.help),
            _ => wrapped(&setting.full_help()),
        };
        let _infallible = write!(self.text, "\n{help}{mark}{line}");
    }

    /// A companion is a table, so it stands behind all settings.
    fn companion(&mut self, module: &str) {
        let _infallible = write!(
            self.text,
            "\n# A process beside the application (`pyserve help companions`).\n\
             # [[companion]]\n\
             # name = \"celery\"\n\
             # command = [\"celery\", \"-A\", \"{module}\", \"worker\"]\n"
        );
    }
}

/// `workers = 4`, with the end of the line.
fn assignment(setting: &'static Setting, values: Vec<String>) -> String {
    let mut layer = Layer::default();
    layer.insert(setting, values, SettingOrigin::Default);
    equivalent::file(&layer, false)
}

/// A text as comment lines.
fn wrapped(text: &str) -> String {
    let mut comment = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
            comment.push_str(&line);
            comment.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    comment.push_str(&line);
    comment.push('\n');
    comment
}
