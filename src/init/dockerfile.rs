//! The text of a `Dockerfile` that runs the project with pyserve as process 1.

use std::fmt::Write as _;

use super::project::{Project, Site};

/// Files that no image needs; a copied virtual environment would have a broken interpreter.
pub const IGNORED: &str = "\
.git
.env
.venv
venv
**/__pycache__
**/*.pyc
node_modules
Dockerfile
.dockerignore
";

/// The file.
pub fn text(project: &Project) -> String {
    let mut text = format!(
        "# The image of this directory: {}.\n\
         #\n\
         #   docker build -t site . && docker run --rm -p 8080:8080 site\n\
         #\n\
         # PYSERVE_IMAGE is an image with the binary. `docker build -f docker/Dockerfile -t pyserve .` in a checkout of\n\
         # pyserve makes it.\n\
         ARG PYSERVE_IMAGE=pyserve\n\
         FROM ${{PYSERVE_IMAGE}} AS pyserve\n\n",
        project.found
    );
    match &project.site {
        Site::Files(_) => text.push_str("FROM debian:stable-slim\n"),
        _ => python(&mut text, project),
    }
    text.push_str(
        "COPY --from=pyserve /usr/local/bin/pyserve /usr/local/bin/pyserve\nWORKDIR /app\n",
    );
    let otherwise = match &project.site {
        Site::Django { .. } => Some("Django"),
        Site::Wsgi { is_flask: true, .. } => Some("Flask"),
        Site::Wsgi { .. } | Site::Files(_) => None,
    };
    if !matches!(project.site, Site::Files(_)) {
        packages(&mut text, project, otherwise);
    }
    text.push_str("COPY . .\n");
    if let Site::Django {
        has_manage: true,
        has_static_root,
        ..
    } = project.site
    {
        collectstatic(&mut text, project, has_static_root);
    }
    text.push_str(
        "\n# The port of the default address, 0.0.0.0:$PORT.\n\
         ENV PORT=8080\n\
         EXPOSE 8080\n\
         # Any user will do. Directories that the application writes to must belong to it, or be volumes.\n\
         USER 1001:0\n\
         HEALTHCHECK --interval=10s --start-period=30s CMD [\"pyserve\", \"health\"]\n\
         # The settings are in /app/pyserve.toml.\n\
         ENTRYPOINT [\"pyserve\"]\n",
    );
    text
}

fn python(text: &mut String, project: &Project) {
    let minor = project.python.minor;
    let origin = match project.python.origin {
        Some(file) => format!("# The version of {file}.\n"),
        None => String::new(),
    };
    let _infallible = write!(
        text,
        "{origin}FROM python:3.{minor}-slim\n\
         ENV PYTHONDONTWRITEBYTECODE=1\n"
    );
}

fn packages(text: &mut String, project: &Project, otherwise: Option<&'static str>) {
    let debian = project.packages.debian();
    if !debian.is_empty() {
        let _infallible = write!(
            text,
            "# Packages of the list are compiled.\n\
             RUN apt-get update && apt-get install --yes --no-install-recommends {} && \\\n    \
             rm -rf /var/lib/apt/lists/*\n",
            debian.join(" ")
        );
    }
    text.push_str(&project.packages.instructions(otherwise));
}

fn collectstatic(text: &mut String, project: &Project, has_static_root: bool) {
    let program = match &project.chdir {
        Some(chdir) => quoted(&format!("{chdir}/manage.py")),
        None => "manage.py".to_owned(),
    };
    let command = format!("RUN python {program} collectstatic --noinput\n");
    let _infallible = match has_static_root {
        true => write!(
            text,
            "# Variables that the settings need, such as a secret key, have to be given to this command: RUN NAME=value python …\n{command}"
        ),
        false => write!(
            text,
            "# With STATIC_ROOT in the settings of Django:\n# {command}"
        ),
    };
}

/// A word of the shell.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || "-_./".contains(char);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
