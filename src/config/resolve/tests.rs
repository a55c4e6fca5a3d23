//! Tests of precedence, defaults and messages, from the three sources to the final settings.

use std::fs;
use std::time::Duration;

use pyserve_wire::control::Preload;
use pyserve_wire::scoreboard::MAX_THREADS;
use tempfile::TempDir;

use super::*;
use crate::config::sizing::Machine;
use crate::config::*;

/// A directory to run in, with variables and flags.
pub(super) struct Setup {
    pub(super) dir: TempDir,
    variables: Vec<(&'static str, String)>,
    is_init: bool,
}

impl Setup {
    /// These files, an interpreter on the path, and nothing set.
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let bin = dir.path().join(".bin");
        fs::create_dir(&bin).unwrap();
        fs::copy("/bin/true", bin.join("python3")).unwrap();
        let variables = vec![("PATH", bin.display().to_string())];
        Self {
            dir,
            variables,
            is_init: false,
        }
    }

    /// This setup with an interpreter at this path.
    pub(super) fn with_python(self, path: &str) -> Self {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy("/bin/true", path).unwrap();
        self
    }

    fn of_process_1(mut self) -> Self {
        self.is_init = true;
        self
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Flags as `--name value` or `--switch`.
    fn load(&self, flags: &[&str]) -> Result<Resolved, ConfigError> {
        let mut layer = Layer::default();
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in flags.chunks(2) {
            let name = pair[0].trim_start_matches('-').replace('-', "_");
            values.entry(name).or_default().push(pair[1].to_owned());
        }
        for (name, values) in values {
            let setting = settings::named(&name).unwrap();
            layer.insert(setting, values, SettingOrigin::Flag(setting.flag()));
        }
        let surroundings = HostFacts {
            uwsgi_command_line: None,
            uwsgi_directory: None,
            gunicorn_command_line: None,
            environment: self
                .variables
                .iter()
                .map(|(name, value)| (name, value))
                .collect::<Environment>(),
            current_dir: self.dir.path().to_owned(),
            executable: None,
            machine: Machine {
                cpu_quota: Some(2.0),
                affinity: 4,
                memory: Some(512 << 20),
                descriptors: None,
            },
            is_terminal: false,
            is_output_terminal: false,
            is_init: self.is_init,
        };
        load(layer, &surroundings)
    }

    pub(super) fn config(&self, flags: &[&str]) -> Config {
        self.load(flags).unwrap().config
    }

    /// The error, with the temporary directory cut out.
    pub(super) fn error(&self, flags: &[&str]) -> String {
        self.shorten(&self.load(flags).unwrap_err().to_string())
    }

    /// Value and origin of a setting, with the temporary directory cut out.
    fn shown(&self, flags: &[&str], name: &str) -> String {
        let resolved = self.load(flags).unwrap();
        let (_, value, origin) = resolved
            .origins
            .iter()
            .find(|(other, ..)| *other == name)
            .unwrap();
        self.shorten(&format!("{value} from {origin}"))
    }

    pub(super) fn shorten(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        text.replace(&format!("{dir}/"), "").replace(&dir, ".")
    }
}

pub(super) const HELLO: (&str, &str) = ("hello.wsgi", "application = None");
pub(super) const APP: [&str; 2] = ["--app", "hello.wsgi"];

#[test]
fn defaults() {
    let setup = Setup::new(&[("app.py", "from flask import Flask\napp = Flask(__name__)")]);
    let config = setup.config(&[]);
    assert_eq!(
        config.apps[0].app.found.clone().unwrap(),
        "Flask application (app.py)"
    );
    assert_eq!(config.chdir, setup.dir.path());
    assert_eq!(config.bind[0].to_string(), "http://127.0.0.1:8000");
    assert_eq!(
        (config.apps[0].workers.count, config.apps[0].threads),
        (2, 1)
    );
    assert!(
        config.apps[0]
            .workers
            .reason
            .starts_with("2 = min(CPU quota 2.0 -> 2,")
    );
    assert_eq!(config.apps[0].preload, Preload::Auto);
    assert_eq!(
        (config.apps[0].queue_limit, config.apps[0].queue_timeout),
        (1024, Duration::from_secs(30))
    );
    assert_eq!(
        config.apps[0].request_timeout,
        Some(Duration::from_secs(60))
    );
    assert_eq!(config.graceful_timeout, Duration::from_secs(30));
    assert_eq!(config.location_settings.max_body, 100 << 20);
    assert_eq!(config.header_timeout, Duration::from_secs(15));
    assert_eq!(
        config.location_settings.body_timeout,
        Duration::from_secs(30)
    );
    assert_eq!(config.keepalive_timeout, Duration::from_secs(75));
    assert_eq!(config.access_log, AccessLog::Combined);
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.log_level, "info");
    assert!(config.server_header && !config.dev);
    assert_eq!(config.temp_dir, Path::new("/tmp"));
    assert_eq!(config.front_threads, 1);
    assert!(!config.trust.trusts(None));
    assert_eq!(
        (
            config.apps[0].pythonpath.len(),
            config.static_locations.len(),
            config.warnings.len()
        ),
        (0, 0, 0)
    );
}

#[test]
fn every_setting_of_the_table_is_resolved_and_shown() {
    let setup = Setup::new(&[HELLO]);
    let resolved = setup.load(&APP).unwrap();
    for setting in settings::all() {
        // The interpreter is shown as `python`, whichever setting named it.
        let is_shown = resolved
            .origins
            .iter()
            .any(|(name, ..)| *name == setting.name);
        assert!(is_shown || setting.name == "venv", "{}", setting.name);
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = (
        "pyserve.toml",
        "\nworkers = 5\nthreads = 6\napp = 'hello.wsgi'\n",
    );
    let setup = Setup::new(&[HELLO, file]);
    assert_eq!(setup.shown(&[], "workers"), "5 from pyserve.toml:2");
    assert_eq!(
        setup.config(&[]).apps[0].workers.reason,
        "5, set by pyserve.toml:2"
    );
    let setup = setup
        .set("PYSERVE_WORKERS", "4")
        .set("WEB_CONCURRENCY", "9")
        .set("PORT", "5000");
    assert_eq!(setup.shown(&[], "workers"), "4 from PYSERVE_WORKERS");
    assert_eq!(
        setup.shown(&["--workers", "3"], "workers"),
        "3 from --workers"
    );
    assert_eq!(setup.shown(&[], "threads"), "6 from pyserve.toml:3");
    assert_eq!(setup.shown(&[], "config"), "pyserve.toml from default");
    assert_eq!(setup.shown(&[], "max_body"), "100M from default");
}

#[test]
fn platforms_set_port_and_concurrency() {
    let setup = Setup::new(&[HELLO])
        .set("PORT", "5000")
        .set("WEB_CONCURRENCY", "7");
    assert_eq!(setup.shown(&APP, "bind"), "http://0.0.0.0:5000 from PORT");
    assert_eq!(setup.shown(&APP, "workers"), "7 from WEB_CONCURRENCY");
    assert_eq!(
        setup.shown(&["--app", "hello.wsgi", "--bind", ":80"], "bind"),
        ":80 from --bind"
    );
    let setup = Setup::new(&[HELLO]).set("PORT", "http");
    assert_eq!(
        setup.error(&APP),
        "PORT=http: not a whole number (give a whole number from 0 to 65535)"
    );
    let setup = Setup::new(&[HELLO]).set("WEB_CONCURRENCY", "0");
    assert!(setup.error(&APP).starts_with("WEB_CONCURRENCY=0: too few"));
}

#[test]
fn requests_have_a_deadline_unless_it_is_zero_or_this_is_development() {
    let setup = Setup::new(&[HELLO]);
    for (args, expected) in [
        (&["--request-timeout", "1500ms"][..], Some(1500)),
        (&["--request-timeout", "0"], None),
        (&["--dev", "yes"], None),
        (&["--dev", "yes", "--request-timeout", "5"], Some(5000)),
    ] {
        let config = setup.config(&[&APP, args].concat());
        assert_eq!(
            config.apps[0].request_timeout,
            expected.map(Duration::from_millis),
            "{args:?}"
        );
    }
}

#[test]
fn development_has_one_worker_unless_told_otherwise() {
    let setup = Setup::new(&[HELLO]);
    assert_eq!(
        setup.config(&["--app", "hello.wsgi", "--dev", "yes"]).apps[0]
            .workers
            .count,
        1
    );
    assert_eq!(
        setup
            .config(&["--app", "hello.wsgi", "--dev", "yes", "--workers", "3"])
            .apps[0]
            .workers
            .count,
        3
    );
}

#[test]
fn workers_follow_the_demand_unless_their_number_is_set() {
    let setup = Setup::new(&[HELLO]);
    let check = |setup: &Setup, flags: &[&str], expected: (u32, u32, bool), shown: &str| {
        let flags = [&APP, flags].concat();
        let workers = &setup.config(&flags).apps[0].workers;
        let numbers = (workers.count, workers.most, workers.is_auto);
        assert_eq!(numbers, expected, "{flags:?}");
        assert_eq!(setup.shown(&flags, "workers"), shown, "{flags:?}");
    };
    let start = "2 = min(CPU quota 2.0 -> 2, affinity 4, memory 512 MiB / 128 MiB -> 4)";
    let auto = |origin: &str| format!("{start}; up to 32 (16 per CPU) from {origin}");
    check(&setup, &[], (2, 32, true), &auto("default"));
    check(
        &setup,
        &["--workers", "auto"],
        (2, 32, true),
        &auto("--workers"),
    );
    check(
        &setup,
        &["--max-workers", "5"],
        (2, 5, true),
        &format!("{start}; up to 5 (set by --max-workers) from default"),
    );
    check(
        &setup,
        &["--max-workers", "1"],
        (1, 1, true),
        &format!("1 (set by --max-workers) instead of {start} from default"),
    );
    check(
        &setup,
        &["--preload", "no"],
        (2, 2, true),
        &format!(
            "{start}; no more, because with `preload = no` each imports for itself from default"
        ),
    );
    for dev in [
        &["--dev", "yes"][..],
        &["--dev", "yes", "--max-workers", "9"],
    ] {
        check(&setup, dev, (1, 1, true), "1, for development from default");
    }
    // What is set is as it is set.
    check(
        &setup,
        &["--workers", "3"],
        (3, 3, false),
        "3 from --workers",
    );
    check(
        &setup,
        &["--workers", "2..8"],
        (2, 8, false),
        "2..8 from --workers",
    );
    let fixed = ["--workers", "3", "--max-workers", "5"];
    check(&setup, &fixed, (3, 3, false), "3 from --workers");
    let platform = Setup::new(&[HELLO]).set("WEB_CONCURRENCY", "7");
    check(&platform, &[], (7, 7, false), "7 from WEB_CONCURRENCY");
    let at_most = ["--max-workers", "5"];
    check(&platform, &at_most, (5, 5, false), "5 from WEB_CONCURRENCY");
    let auto_again = ["--workers", "auto"];
    check(&platform, &auto_again, (2, 32, true), &auto("--workers"));

    assert_eq!(setup.shown(&APP, "max_workers"), "32 from default");
    let flags = [&APP[..], &["--workers", "4", "--max-workers", "3"]].concat();
    assert_eq!(
        setup.error(&flags),
        "--max-workers 3: fewer than the workers, 4 by --workers (give a larger one, or lower workers)"
    );
    let flags = [&APP[..], &["--max-workers", "0"]].concat();
    assert!(setup.error(&flags).starts_with("--max-workers 0: too few"));
}

#[test]
fn errors_name_setting_value_origin_and_remedy() {
    let setup = Setup::new(&[HELLO, ("plain", "")]);
    let check = |flags: &[&str], expected: &str| {
        assert_eq!(setup.error(&[&APP, flags].concat()), expected);
    };
    check(
        &["--workers", "0"],
        "--workers 0: too few (give a whole number from 1 to 1024)",
    );
    check(
        &["--max-body", "1X"],
        "--max-body 1X: not a size in bytes (give bytes as in `1048576`, or a unit as in `512K`, `100M`, `1.5G`)",
    );
    check(
        &["--header-timeout", "0"],
        "--header-timeout 0: a time limit of zero would end everything at once (give a longer time, as in `30` or `500ms`)",
    );
    check(
        &["--preload", "atuo"],
        "--preload atuo: unknown, did you mean `auto`? (give one of auto, yes, no)",
    );
    check(
        &["--access-log", "apache"],
        "--access-log apache: unknown (give one of off, short, combined, json)",
    );
    check(
        &["--server-header", "maybe"],
        "--server-header maybe: neither yes nor no (give yes or no)",
    );
    check(
        &["--bind", "127.0.0.1"],
        "--bind 127.0.0.1: no port (give 127.0.0.1:8000)",
    );
    check(
        &["--chdir", "gone"],
        "--chdir gone: there is no directory gone (give an existing one; relative paths are below .)",
    );
    check(
        &["--chdir", "plain"],
        "--chdir plain: plain is not a directory (give an existing one; relative paths are below .)",
    );
    check(
        &["--temp-dir", ""],
        "--temp-dir \"\": no directory (give one, as in `.`)",
    );
    check(
        &["--config", "gone.toml"],
        "--config gone.toml: there is no such file (give an existing one, or leave it out for ./pyserve.toml)",
    );
    check(
        &["--workers", "1024", "--threads", "64"],
        &format!(
            "--workers 1024: with 64 threads each, these are more than {MAX_THREADS} in all (lower workers or threads)"
        ),
    );
    check(
        &["--trust", "10.0.0.0/8,moon"],
        "--trust 10.0.0.0/8,moon: not a network or address (give networks and addresses as in `10.0.0.0/8,::1`, and `unix` for Unix sockets)",
    );
    check(
        &["--max-connections-per-ip", "0"],
        "--max-connections-per-ip 0: 0 could mean that no client may connect (give `no` for no limit, or a whole number from 1)",
    );
    check(
        &["--uwsgi", "127.0.0.1:1", "--app", "app"],
        "--uwsgi 127.0.0.1:1: --app names an application as well (give only one of app and uwsgi)",
    );
    check(
        &["--python", "/x", "--venv", "y"],
        "--python /x: --venv names an interpreter as well (give only one of python and venv)",
    );
    check(
        &["--python", "/nonexistent"],
        "no usable Python: looked at /nonexistent (--python) (give the path of an executable interpreter, as in /usr/bin/python3)",
    );
}

#[test]
fn errors_name_the_line_of_the_settings_file() {
    let setup = Setup::new(&[
        HELLO,
        ("pyserve.toml", "app = 'hello.wsgi'\nworkers = true\n"),
    ]);
    assert_eq!(
        setup.error(&[]),
        "pyserve.toml:2: workers = \"true\": not a whole number (give a whole number from 1 to 1024)"
    );
}

#[test]
fn relative_paths_are_below_chdir() {
    let setup = Setup::new(&[
        ("site/hello.wsgi", ""),
        ("site/lib/x.py", ""),
        ("site/css/site.css", ""),
        ("site/env/bin/x", ""),
        ("site/uploads/x", ""),
        (
            "settings/my.toml",
            "chdir = '../site'\nstatic = {'/media/' = './uploads'}\npythonpath = 'lib'\nbind = 'unix:app.sock'",
        ),
    ]);
    let config = setup.config(&["--config", "settings/my.toml", "--app", "hello.wsgi"]);
    let show = |path: &Path| setup.shorten(&path.display().to_string());
    assert_eq!(show(&config.chdir), "settings/../site");
    assert_eq!(show(&config.apps[0].pythonpath[0]), "settings/../site/lib");
    assert_eq!(
        setup.shorten(&config.bind[0].to_string()),
        "unix:settings/../site/app.sock"
    );
    let locations: Vec<_> = config
        .static_locations
        .iter()
        .map(|location| {
            (
                location.prefix.as_str(),
                show(&location.dir),
                location.predefined,
            )
        })
        .collect();
    assert_eq!(
        locations,
        [
            ("/media", "settings/../site/uploads".to_owned(), false),
            ("/css", "settings/../site/css".to_owned(), true),
        ]
    );
}

#[test]
fn without_application_there_must_be_static_files() {
    let setup = Setup::new(&[("main.py", "print()")]);
    let error = setup.error(&[]);
    assert!(
        error.starts_with("nothing to serve in .: no application and no static files there; looked for manage.py, */wsgi.py,"),
        "{error}"
    );
    assert!(error.contains("main.py defines none of"), "{error}");
    let setup = Setup::new(&[("css/a", "")]).set("PATH", "/nowhere");
    assert!(setup.config(&[]).apps.is_empty());
    assert_eq!(setup.shown(&[], "python"), "none from default");
    // An interpreter has to exist for an application, and where a setting names one.
    assert!(setup.error(&["--app", "x"]).starts_with("no usable Python"));
    assert!(
        setup
            .error(&["--venv", "x"])
            .starts_with("no usable Python")
    );
}

#[test]
fn the_stronger_source_names_the_interpreter() {
    let setup = Setup::new(&[HELLO]).set("PYSERVE_VENV", "gone");
    assert!(
        setup
            .error(&APP)
            .starts_with("no usable Python: looked at gone/bin/python (PYSERVE_VENV)")
    );
    let flags = ["--app", "hello.wsgi", "--python", "python3"];
    assert_eq!(setup.shown(&flags, "python"), ".bin/python3 from --python");
}

#[test]
fn lists_may_be_empty() {
    let file = (
        "pyserve.toml",
        "app = 'hello.wsgi'\ntrust = []\nbind = []\n",
    );
    let config = Setup::new(&[HELLO, file]).config(&[]);
    assert_eq!(config.bind[0].to_string(), "http://127.0.0.1:8000");
    assert_eq!(config.trust, Trust::default());
}

#[test]
fn as_process_1_a_stop_fits_the_runtime_or_there_is_a_warning() {
    let companion = (
        "pyserve.toml",
        "[[companion]]\nname = 'one'\ncommand = 'true'",
    );
    let check = |more: &[(&str, &str)], is_pod, flags: &[&str], seconds, warning: &str| {
        let mut setup = Setup::new(&[&[HELLO], more].concat()).of_process_1();
        if is_pod {
            setup = setup.set("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        }
        let config = setup.config(&[&APP, flags].concat());
        assert_eq!(config.graceful_timeout, Duration::from_secs(seconds));
        let warnings = config.warnings.join("\n");
        assert_eq!(warnings.is_empty(), warning.is_empty(), "{warnings}");
        assert!(warnings.contains(warning), "{warnings}");
    };
    check(&[], false, &[], 8, "");
    check(&[], true, &[], 25, "");
    let delay = ["--drain-delay", "5"];
    let docker = "a stop may take 14 s (drain_delay 5, graceful_timeout 8, exit hooks 1, companions 0), but Docker kills after 10";
    check(&[], false, &delay, 8, docker);
    check(&[companion], false, &[], 8, "");
    check(&[companion], false, &delay, 8, "companions 1), but Docker");
    check(&[companion], true, &delay, 25, "32 s");
    let thought_of = ["--drain-delay", "5", "--graceful-timeout", "60"];
    check(&[companion], false, &thought_of, 60, "");
}

#[test]
fn settings_that_need_another_one_are_noticed() {
    let setup = Setup::new(&[HELLO]).set("PYSERVE_ACME_EMAIL", "a@b.org");
    let config = setup.config(&["--app", "hello", "--tls-min", "1.3", "--acme-dir", "x"]);
    let expected = [
        "PYSERVE_ACME_EMAIL: acme_email has no effect: give the host of a certificate with --acme",
        "--acme-dir: acme_dir has no effect: give the host of a certificate with --acme",
        "--tls-min: tls_min has no effect: no address of --bind begins with https://",
    ];
    assert_eq!(config.warnings, expected);
}

#[test]
fn warnings_are_kept() {
    let setup =
        Setup::new(&[("site/hello.wsgi", ""), ("site/pyserve.toml", "")]).set("PYSERVE_FOO", "1");
    let config = setup.config(&["--chdir", "site", "--app", "hello.wsgi"]);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("PYSERVE_FOO"));
    assert!(config.warnings[1].contains("is not read"));
}

#[test]
fn companions_have_names_and_commands() {
    let config = |text| Setup::new(&[("pyserve.toml", text), ("static/x", "")]);
    let text = "
        before_start = 'true'

        [[companion]]
        command = ['/usr/bin/celery', '-A', 'mysite']
        essential = true

        [[companion]]
        name = 'beat'
        command = 'celery beat'
        stop_timeout = '1m'
        restart_on_reload = false
        overlap = 'yes'
        ";
    let read = config(text).config(&[]);
    let lines: Vec<_> = read
        .companions
        .iter()
        .map(|one| {
            format!(
                "{}: {} {} {:?} {} {}",
                one.name,
                one.program,
                one.is_essential,
                one.stop_timeout,
                one.restart_on_reload,
                one.overlap
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "celery: /usr/bin/celery -A mysite true None true false",
            "beat: celery beat false Some(60s) false true"
        ]
    );
    let warnings = read.warnings.join("\n");
    assert!(
        warnings.contains(
            "the stop_timeout of companion beat, 60 s, is longer than graceful_timeout, 30 s"
        ),
        "{warnings}"
    );
    assert_eq!(
        read.before_start.map(|line| line.to_string()).as_deref(),
        Some("true")
    );
}

#[test]
fn mistakes_in_companions_are_refused_with_place_and_remedy() {
    let config = |text| Setup::new(&[("pyserve.toml", text), ("static/x", "")]);
    for (text, expected) in [
        (
            "[[companion]]\nname = 'x'",
            "pyserve.toml:1: [[companion]] command = \"\": nothing that runs (give a `command`)",
        ),
        (
            "[[companion]]\ncommand = 'a b'\n[[companion]]\ncommand = 'a'",
            "pyserve.toml:3: [[companion]] name = \"a\": another companion has this name (give each a `name` of its own)",
        ),
        (
            "[[companion]]\ncomand = 'a'",
            "pyserve.toml:2: unknown setting \"comand\" (did you mean \"command\"?)",
        ),
        (
            "[[companion]]\ncommand = 'a'\nessential = 'perhaps'",
            "pyserve.toml:3: [[companion]] essential = \"perhaps\": neither yes nor no (give yes or no)",
        ),
        (
            "[[companion]]\ncommand = 'a'\nessential = 1",
            "pyserve.toml:3: essential cannot be a number (give true or false)",
        ),
        (
            "[[companion]]\ncommand = 5",
            "pyserve.toml:2: command cannot be a number (give a line for the shell, or an array of texts)",
        ),
        (
            "[[companion]]\ncommand = ['a', true]",
            "pyserve.toml:2: command cannot be true or false (give a line for the shell, or an array of texts)",
        ),
        (
            "before_start = 5",
            "pyserve.toml:1: before_start cannot be a number (give a line for the shell)",
        ),
        (
            "server_header = 1",
            "pyserve.toml:1: server_header cannot be a number (give true or false)",
        ),
        (
            "[[companion]]\ncommand = 'a'\nname = ''",
            "pyserve.toml:3: [[companion]] name = \"\": the name is empty (give one, or remove the key for the first word of the command)",
        ),
        (
            "[[companion]]\ncommand = 'a'\nname = 7",
            "pyserve.toml:3: name cannot be a number (give a text)",
        ),
    ] {
        assert_eq!(config(text).error(&[]), expected, "{text}");
    }
}

#[test]
fn arguments_of_a_factory_that_may_be_secrets_are_not_shown() {
    let text = "app = \"shop:create_app('t0ken')\"";
    let setup = Setup::new(&[("pyserve.toml", text), ("shop.py", "")]);
    assert_eq!(
        setup.shown(&[], "app"),
        "shop:create_app(***) from pyserve.toml:1"
    );
}

#[test]
fn an_archive_of_modules_only_needs_to_be_read() {
    use std::os::unix::fs::PermissionsExt;

    let setup = Setup::new(&[("hello.py", ""), ("libs.zip", "PK"), ("plain", "PK")]);
    for name in ["libs.zip", "plain"] {
        let plain = fs::Permissions::from_mode(0o644);
        fs::set_permissions(setup.dir.path().join(name), plain).unwrap();
    }
    for entry in ["libs.zip", "./libs.zip", "libs.zip/sub"] {
        let config = setup.config(&["--app", "hello:app", "--pythonpath", entry]);
        reach::check(&config.apps[0]).unwrap();
    }
    let error = setup.error(&["--app", "hello:app", "--pythonpath", "plain"]);
    assert!(error.contains("is not a directory"), "{error}");
    let ini = "[uwsgi]\nmodule = hello:app\npythonpath = plain\npythonpath = plain/sub\n";
    fs::write(setup.dir.path().join("uwsgi.ini"), ini).unwrap();
    let resolved = setup.load(&["--ini", "uwsgi.ini"]).unwrap();
    assert!(
        !resolved
            .config
            .warnings
            .iter()
            .any(|line| line.contains("no directory")),
        "{:?}",
        resolved.config.warnings
    );
    reach::check(&resolved.config.apps[0]).unwrap();
}

#[test]
fn a_header_that_explain_masks_is_masked_among_the_settings() {
    let ini =
        "[uwsgi]\nmodule = hello:app\nadd-header = X-Api-Token: abcdef\nadd-header = X-A: b\n";
    let setup = Setup::new(&[("hello.py", ""), ("uwsgi.ini", ini)]);
    let shown = setup.shown(&["--ini", "uwsgi.ini"], "header");
    assert!(shown.contains("X-Api-Token: ***"), "{shown}");
    assert!(shown.contains("X-A: b"), "{shown}");
}
