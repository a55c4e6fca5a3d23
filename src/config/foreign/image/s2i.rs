//! Images of OpenShift's source-to-image for Python (sclorg/s2i-python-container): the variables of its `run`
//! script. That starts gunicorn, and migrates a Django project before.

use super::Reader;
use crate::config::discovery;
use crate::config::foreign::Verdict;

/// Variables of these images alone.
const VARIABLES: [&str; 6] = [
    "APP_MODULE",
    "APP_FILE",
    "APP_HOME",
    "APP_CONFIG",
    "APP_SCRIPT",
    "DISABLE_MIGRATE",
];
/// The script that starts the application in its own way, if it is there.
const SCRIPT: &str = "app.sh";

pub(super) fn decide(reader: &mut Reader<'_>, is_s2i: bool) {
    let is_one = |name: &str| reader.environment().raw(name).is_some();
    let is_s2i = is_s2i || VARIABLES.iter().any(|name| is_one(name));
    let home = reader.variable("APP_HOME");
    if let Some(home) = &home {
        reader.set(
            "APP_HOME",
            &format!("APP_HOME={home}"),
            "chdir",
            home.clone(),
        );
    }
    let below = |name: &str| match &home {
        Some(home) if !name.starts_with('/') => format!("{}/{name}", home.trim_end_matches('/')),
        _ => name.to_owned(),
    };
    script(reader, &below, is_s2i);
    let by_file = application(reader);
    gunicorn(reader, &below);
    if is_s2i && !by_file {
        reader.found.sizes_workers = true;
        migrations(reader, &below("manage.py"));
    }
}

fn script(reader: &mut Reader<'_>, below: &dyn Fn(&str) -> String, is_s2i: bool) {
    let given = reader.variable("APP_SCRIPT");
    let name = given.clone().or_else(|| is_s2i.then(|| SCRIPT.to_owned()));
    let name = name.filter(|name| given.is_some() || reader.is_file(&below(name)));
    if let Some(name) = name {
        let why = "a script that starts a server itself is not run: name the application with APP_MODULE, and what \
                   the script prepares with --prestart or --before-start";
        let text = format!("APP_SCRIPT={name}");
        reader.say("APP_SCRIPT", &text, Verdict::Unsupported(why.to_owned()));
    }
}

/// Names the application; true if a file has precedence, for which no migration runs.
fn application(reader: &mut Reader<'_>) -> bool {
    let file = reader.variable("APP_FILE");
    let module = reader.variable("APP_MODULE");
    match (&file, &module) {
        (Some(file), _) => {
            reader.set("APP_FILE", &format!("APP_FILE={file}"), "app", file.clone());
            if let Some(module) = &module {
                let text = format!("APP_MODULE={module}");
                let why = "APP_FILE names the application".to_owned();
                reader.say("APP_MODULE", &text, Verdict::NoEffect(why));
            }
        }
        (None, Some(module)) => {
            let text = format!("APP_MODULE={module}");
            reader.set("APP_MODULE", &text, "app", module.clone());
        }
        (None, None) => {}
    }
    file.is_some()
}

fn gunicorn(reader: &mut Reader<'_>, below: &dyn Fn(&str) -> String) {
    if let Some(file) = reader.variable("APP_CONFIG") {
        let text = format!("APP_CONFIG={file}");
        reader.set("APP_CONFIG", &text, "gunicorn", below(&file));
    }
    // Its options count, whichever of its files are there.
    if reader.variable("GUNICORN_CMD_ARGS").is_some() {
        reader.found.gunicorn = Some(Vec::new());
    }
}

fn migrations(reader: &mut Reader<'_>, manage: &str) {
    if let Some(value) = reader.variable("DISABLE_MIGRATE") {
        let text = format!("DISABLE_MIGRATE={value}");
        let why = "migrations do not run at the start".to_owned();
        reader.say("DISABLE_MIGRATE", &text, Verdict::Read(why));
        return;
    }
    let path = reader.around.current_dir.join(manage);
    if discovery::is_django_manage(&path) && !reader.is_set("before_start") {
        let command = "python3 manage.py migrate --noinput".to_owned();
        reader.set(manage, "manage.py", "before_start", command);
    }
}
