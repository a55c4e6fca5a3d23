//! Variables and files of images, and the settings that they give.

use std::fs;

use super::*;
use crate::config::foreign::Files;
use crate::config::layers::SettingOrigin;
use crate::config::sizing::Machine;
use crate::config::{Environment, HostFacts};

/// The files of an image, its variables, and the value of the setting `image`.
struct Case<'a> {
    files: &'a [(&'a str, &'a str)],
    variables: &'a [(&'a str, &'a str)],
    image: &'a str,
}

fn found(case: &Case<'_>) -> Option<Found> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in case.files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = HostFacts {
        environment: case.variables.iter().copied().collect::<Environment>(),
        current_dir: dir.path().to_owned(),
        executable: None,
        machine: Machine {
            cpu_quota: None,
            affinity: 2,
            memory: None,
            descriptors: None,
        },
        is_terminal: false,
        is_output_terminal: false,
        uwsgi_command_line: None,
        uwsgi_directory: None,
        gunicorn_command_line: None,
        is_init: true,
    };
    let mut own = Layer::default();
    let setting = settings::named("image").unwrap();
    own.insert(
        setting,
        vec![case.image.to_owned()],
        SettingOrigin::Variable("PYSERVE_IMAGE".to_owned()),
    );
    let files = Files::OF_THIS_MACHINE;
    let around = Surroundings::of(&host, &files);
    read(&[own], &around, false)
}

/// Checks settings, and a part of the line about one source.
fn check(case: &Case<'_>, expected: &[(&str, &str)], line: &str) {
    let found = found(case).expect("an image");
    let layer = &found.reading.layer;
    for (name, value) in expected {
        let given = layer.entry(name).map(|entry| entry.values.join(" "));
        assert_eq!(
            given.as_deref().unwrap_or_default(),
            *value,
            "{name}: {:?}",
            case.variables
        );
    }
    let lines: Vec<_> = found.reading.lines.iter().map(Line::to_string).collect();
    let lines = lines.join("\n");
    assert!(lines.contains(line), "{line:?} is missing in: {lines}");
}

const FLASK: &str = "from flask import Flask\napp = Flask(__name__)\n";
const MANAGE: &str = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\n";

#[test]
fn variables_mean_nothing_unless_the_setting_is_on() {
    let case = Case {
        files: &[("main.py", FLASK)],
        variables: &[("LISTEN_PORT", "8081")],
        image: "no",
    };
    assert!(found(&case).is_none());
}

#[test]
fn variables_of_images_with_nginx_and_uwsgi_are_settings() {
    let check = |files: &[(&str, &str)],
                 variables: &[(&str, &str)],
                 expected: &[(&str, &str)],
                 line: &str| {
        let image = "yes";
        super::tests::check(
            &Case {
                files,
                variables,
                image,
            },
            expected,
            line,
        );
    };
    check(
        &[("main.py", FLASK)],
        &[("LISTEN_PORT", "8081"), ("NGINX_MAX_UPLOAD", "16m")],
        &[
            ("bind", "0.0.0.0:8081"),
            ("max_body", "16M"),
            ("app", "main:app"),
        ],
        "NGINX_MAX_UPLOAD=16m: honoured as max_body = \"16M\"",
    );
    check(
        &[],
        &[("NGINX_MAX_UPLOAD", "much")],
        &[("max_body", "")],
        "NGINX_MAX_UPLOAD=much: wrong: not a size of nginx",
    );
    check(
        &[],
        &[("LISTEN_PORT", "http")],
        &[("bind", "")],
        "LISTEN_PORT=http: wrong: not the number of a port",
    );
    check(
        &[("uwsgi.ini", "[uwsgi]\n"), ("main.py", FLASK)],
        &[],
        &[("ini", "uwsgi.ini"), ("app", "")],
        "uwsgi.ini: honoured",
    );
    // The variable of uWSGI names another file, which its own reader reads.
    check(
        &[("uwsgi.ini", "[uwsgi]\n")],
        &[("UWSGI_INI", "other.ini"), ("NGINX_WORKER_PROCESSES", "4")],
        &[("ini", "")],
        "NGINX_WORKER_PROCESSES=4: no effect here: it tunes nginx",
    );
    check(
        &[("nginx.conf", "http {}\n")],
        &[("LISTEN_PORT", "8081"), ("STATIC_URL", "/s")],
        &[("nginx", "nginx.conf"), ("bind", "")],
        "LISTEN_PORT=8081: no effect here: nginx.conf has the address",
    );
    // main.py of a Django project is no application of its own.
    check(
        &[
            ("main.py", FLASK),
            ("manage.py", MANAGE),
            ("prestart.sh", ""),
        ],
        &[],
        &[("app", ""), ("before_start", "")],
        "prestart.sh: read: sourced before the start",
    );
}

#[test]
fn values_that_nginx_or_a_shell_would_read_otherwise_are_read_so() {
    let check = |variables: &[(&str, &str)], expected: &[(&str, &str)], line: &str| {
        let case = Case {
            files: &[],
            variables,
            image: "yes",
        };
        super::tests::check(&case, expected, line);
    };
    // nginx refuses it as well; here it would be any free port.
    check(
        &[("LISTEN_PORT", "0")],
        &[("bind", "")],
        "LISTEN_PORT=0: wrong: not the number of a port, 1 to 65535",
    );
    check(
        &[("LISTEN_PORT", "\"8081\""), ("NGINX_MAX_UPLOAD", " 1m ")],
        &[("bind", "0.0.0.0:8081"), ("max_body", "1M")],
        "LISTEN_PORT=8081: honoured",
    );
    check(
        &[("PRE_START_PATH", "gone.sh"), ("LISTEN_PORT", "")],
        &[("bind", "")],
        "PRE_START_PATH=gone.sh: no effect here: there is no such file",
    );
}

#[test]
fn directories_of_static_files_are_locations() {
    let check = |files: &[(&str, &str)], variables: &[(&str, &str)], expected: &[&str]| {
        let image = "yes";
        let found = found(&Case {
            files,
            variables,
            image,
        })
        .unwrap();
        let tables = &found.reading.layer.locations;
        let value = |table: &SettingsTable, name: &str| {
            table
                .entry(name)
                .map(|entry| entry.values.join(" "))
                .unwrap_or_default()
        };
        let shown: Vec<_> = tables
            .iter()
            .map(|table| {
                let place = format!("{}{}", value(table, "prefix"), value(table, "path"));
                let target = format!("{}{}", value(table, "static"), value(table, "file"));
                let base = target.rsplit_once("/").map_or("", |(_, base)| base);
                format!("{place} {base}")
            })
            .collect();
        assert_eq!(shown, expected, "{variables:?}");
    };
    let files = &[("static/index.html", "page"), ("public/a.txt", "a")][..];
    check(files, &[("STATIC_URL", "/assets/")], &["/assets static"]);
    check(files, &[("STATIC_PATH", "public")], &["/static "]);
    check(
        files,
        &[("STATIC_INDEX", "1")],
        &["/static static", "/ index.html"],
    );
    check(files, &[("STATIC_INDEX", "0")], &["/static static"]);
    check(&[], &[("STATIC_PATH", "/nowhere")], &[]);
    check(files, &[], &[]);
}

#[test]
fn a_directory_without_uwsgi_ini_is_named() {
    let case = Case {
        files: &[("main.py", "app = 1\n")],
        variables: &[("UWSGI_INI_DIR", "gone")],
        image: "yes",
    };
    check(&case, &[("app", "main:app")], "there is no gone/uwsgi.ini");
}

#[test]
fn the_missing_number_of_processes_is_that_of_the_image() {
    let check = |variables: &[(&str, &str)], expected: &[(&str, &str)]| {
        let found = found(&Case {
            files: &[],
            variables,
            image: "yes",
        });
        let added = found.unwrap().variables;
        let added: Vec<_> = added
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(added, expected, "{variables:?}");
    };
    check(&[("UWSGI_CHEAPER", "4")], &[("UWSGI_PROCESSES", "16")]);
    check(&[("UWSGI_PROCESSES", "8")], &[("UWSGI_CHEAPER", "2")]);
    check(&[("UWSGI_PROCESSES", "1")], &[]);
    check(&[("UWSGI_PROCESSES", "4"), ("UWSGI_CHEAPER", "1")], &[]);
    check(&[], &[]);
}

#[test]
fn variables_of_source_to_image_are_settings() {
    let check = |files: &[(&str, &str)],
                 variables: &[(&str, &str)],
                 image: &str,
                 expected: &[(&str, &str)],
                 line: &str| {
        super::tests::check(
            &Case {
                files,
                variables,
                image,
            },
            expected,
            line,
        );
    };
    let migrate = "python3 manage.py migrate --noinput";
    check(
        &[("manage.py", MANAGE)],
        &[("APP_MODULE", "mysite.wsgi")],
        "yes",
        &[("app", "mysite.wsgi"), ("before_start", migrate)],
        "APP_MODULE=mysite.wsgi: honoured",
    );
    check(
        &[("manage.py", MANAGE)],
        &[("DISABLE_MIGRATE", "1"), ("APP_MODULE", "mysite.wsgi")],
        "yes",
        &[("before_start", "")],
        "DISABLE_MIGRATE=1: read: migrations do not run",
    );
    // Without a variable of theirs it is no image of theirs, unless the setting says so.
    let prestart = ("prestart.sh", "");
    let django = &[("manage.py", MANAGE), prestart][..];
    check(django, &[], "yes", &[("before_start", "")], "prestart.sh");
    check(
        django,
        &[],
        "s2i",
        &[("before_start", migrate)],
        "manage.py",
    );
    check(
        &[("src/manage.py", MANAGE), ("src/conf.py", "")],
        &[("APP_HOME", "src"), ("APP_CONFIG", "conf.py")],
        "yes",
        &[
            ("chdir", "src"),
            ("gunicorn", "src/conf.py"),
            ("before_start", migrate),
        ],
        "APP_CONFIG=conf.py: honoured",
    );
    // A file takes precedence, and then nothing is migrated.
    check(
        &[("manage.py", MANAGE)],
        &[("APP_FILE", "app.py"), ("APP_MODULE", "mysite.wsgi")],
        "yes",
        &[("app", "app.py"), ("before_start", "")],
        "APP_MODULE=mysite.wsgi: no effect here: APP_FILE names the application",
    );
    check(
        &[("app.sh", "")],
        &[],
        "s2i",
        &[("app", "")],
        "APP_SCRIPT=app.sh: not supported",
    );
}

#[test]
fn the_options_of_gunicorn_count_without_a_file() {
    let case = Case {
        files: &[],
        variables: &[("GUNICORN_CMD_ARGS", "--timeout 7")],
        image: "yes",
    };
    assert_eq!(found(&case).unwrap().gunicorn, Some(Vec::new()));
}

#[test]
fn the_web_line_of_a_procfile_is_a_command_line() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let of = |line: &str| {
        let file = format!("# comment\nworker: celery\nweb: {line}\n");
        found(&Case {
            files: &[("Procfile", &file), ("main.py", FLASK)],
            variables: &[("PORT", "5000")],
            image: "yes",
        })
        .unwrap()
    };
    let setting = |found: &Found, name: &str| {
        let entry = found.reading.layer.entry(name);
        entry
            .map(|entry| entry.values.join(" "))
            .unwrap_or_default()
    };
    let found = of("gunicorn -b 0.0.0.0:$PORT -w ${WORKERS:-3} mysite.wsgi");
    let expected = words("-b 0.0.0.0:5000 -w 3 mysite.wsgi");
    assert_eq!(found.gunicorn, Some(expected));
    assert_eq!(setting(&found, "app"), "");
    let found = of("python manage.py migrate && newrelic-admin run-program gunicorn app:app");
    assert_eq!(found.gunicorn, Some(words("app:app")));
    assert_eq!(setting(&found, "before_start"), "python manage.py migrate");
    let found = of("cd src && exec uwsgi --ini site.ini");
    assert_eq!(found.uwsgi, Some(words("--ini site.ini")));
    assert_eq!(setting(&found, "chdir"), "src");
    let found = of("waitress-serve app:app");
    assert!((found.gunicorn, found.uwsgi) == (None, None));
    let line = found.reading.lines[0].to_string();
    assert!(line.contains("waitress-serve is not started"), "{line}");
    assert_eq!(setting(&of("python main.py"), "app"), "main:app");
}
