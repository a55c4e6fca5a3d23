//! State of the server that an upgrade keeps: companions, maintenance mode, the user, the service manager.

use std::os::unix::net::UnixDatagram;

use super::*;
use crate::support::{is_root, python, tls};

#[test]
fn a_companion_never_runs_twice_unless_its_settings_allow_that() {
    let script = source("tests/apps/task_queue.py");
    let line = format!("{} {}", python::default().display(), script.display());
    let both = "overlap = true";
    for (keys, overlaps) in [
        ("", false),
        (both, true),
        ("restart_on_reload = false", false),
    ] {
        let site = Site::new();
        let mut server = site.pyserve();
        let settings = format!(
            "app = 'app:app'\n[[companion]]\nname = 'queue'\ncommand = \"{line}\"\n{keys}\n"
        );
        write_files(site.dir.path(), &[("pyserve.toml", &settings)]);
        server = server.env("PYTHONPATH", source("tests/apps"));
        let mut server = server.ready();
        let task = server.probe.held("task");
        server.probe.notes.wait_for("at work");
        upgrade(&server);
        server.probe.notes.wait_for("warm shutdown");
        if overlaps {
            let second = server.probe.held("task");
            server.probe.notes.wait_for_nth("at work", 2);
            second.release();
        }
        assert_eq!(
            server.stderr.count("companion started"),
            1 + usize::from(overlaps)
        );
        task.release();
        server.probe.notes.wait_for("task finished");
        if !overlaps {
            server.probe.held("task").release();
            server.probe.notes.wait_for_nth("at work", 2);
        }
        server
            .stderr
            .wait_for("has finished its requests and companions");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0, "{keys}");
    }
}

#[test]
fn a_companion_of_a_killed_old_process_delays_the_one_of_the_new_process_as_well() {
    let script = source("tests/apps/task_queue.py");
    let line = format!("{} {}", python::default().display(), script.display());
    let site = Site::new();
    let manager = Manager::new(&site);
    let server = site
        .pyserve()
        .env("PYTHONPATH", source("tests/apps"))
        .env("NOTIFY_SOCKET", &manager.path);
    let settings =
        format!("app = 'app:app'\n[[companion]]\nname = 'queue'\ncommand = \"exec {line}\"\n");
    write_files(site.dir.path(), &[("pyserve.toml", &settings)]);
    let mut server = server.ready();
    let task = server.probe.held("task");
    server.probe.notes.wait_for("at work");
    upgrade(&server);
    server.probe.notes.wait_for("warm shutdown");
    assert_eq!(server.stderr.count("companion started"), 1);
    server.signal(Signal::KILL);
    assert_eq!(server.wait_exit(), 137);
    server
        .stderr
        .wait_for("the process before this one has ended");
    // The kernel has asked it again: it ends without its task, and the new one may start.
    drop(task);
    server.probe.held("task").release();
    server.probe.notes.wait_for_nth("at work", 2);
    assert_eq!(verb(&server, &["stop"]).code, 0);
}

#[test]
fn a_scheduled_run_works_to_its_end_and_its_times_go_on() {
    let site = Site::new();
    let server = site.pyserve();
    let settings = "app = 'app:app'\n[[companion]]\nname = 'tick'\nevery = '1h'\ncommand = 'true'\n\
         [[companion]]\nname = 'work'\nevery = '1s'\ncommand = 'sleep 1.5; echo one run is over'\n";
    write_files(site.dir.path(), &[("pyserve.toml", settings)]);
    let server = server.ready();
    let next = || {
        let status = verb(&server, &["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let next = status["companions"][0]["next_run"].as_str();
        next.unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let before = next();
    // A period that began again would end later by the time that these took.
    server.stderr.wait_for_nth("one run is over", 2);
    upgrade(&server);
    let apart = next().duration_since(before);
    assert!(apart.as_secs().abs() <= 1, "{apart:?}");
    server.stderr.wait_for_nth("one run is over", 4);
    assert_eq!(server.stderr.count("stopping the old companion"), 0);
    let lines = server.stderr.so_far();
    let at = |text: &str, nth: usize| {
        let mut found = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains(text));
        found.nth(nth).map(|(at, _)| at)
    };
    for run in 0..3 {
        let (end, start) = (at("one run is over", run), at("companion started", run + 1));
        assert!(end < start, "{lines:#?}");
    }
}

#[test]
fn maintenance_mode_and_the_number_of_workers_are_kept() {
    let site = Site::new();
    std::fs::write(site.path("page.html"), "back soon").unwrap();
    let server = site.pyserve().ready();
    let page = site.path("page.html");
    let on = [
        "maintenance",
        "on",
        "--page",
        page.to_str().unwrap(),
        "--retry-after",
        "77",
    ];
    assert_eq!(verb(&server, &on).code, 0);
    assert_eq!(verb(&server, &["scale", "3"]).code, 0);
    let since = verb(&server, &["maintenance", "status"]).stdout;
    upgrade(&server);
    assert_eq!(verb(&server, &["maintenance", "status"]).stdout, since);
    let response = server.get("/");
    assert_eq!((response.status(), &*response.text()), (503, "back soon"));
    assert_eq!(response.header("retry-after").as_deref(), Some("77"));
    assert!(
        verb(&server, &["status"])
            .stdout
            .contains("3 of 3 to 3 workers")
    );
    assert_eq!(verb(&server, &["maintenance", "off"]).code, 0);
    assert_eq!(server.get("/").status(), 200);
}

/// A service manager that reads notifications.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(site: &Site) -> Self {
        let path = site.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path }
    }

    fn wait_for(&self, part: &str) -> String {
        loop {
            let mut message = [0; 4096];
            let length = self.socket.recv(&mut message).expect("a message");
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text.contains(part) {
                return text;
            }
        }
    }
}

#[test]
fn systemd_learns_of_the_new_main_process_and_the_old_one_ends() {
    let site = Site::new();
    let manager = Manager::new(&site);
    let mut server = site
        .pyserve()
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "60000000")
        .ready();
    manager.wait_for("READY=1");
    let (mut connection, held) = server.hold("/inside");
    let pid = upgrade(&server);
    let text = manager.wait_for("MAINPID=");
    assert!(text.starts_with(&format!("MAINPID={pid}\n")), "{text}");
    // What the old process does is no longer the state of the service.
    held.release();
    assert_eq!(connection.response().status(), 200);
    assert_eq!(server.wait_exit(), 0);
    assert_eq!(server.get("/").status(), 200);
    kill(pid, Signal::HUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    let third = upgrade(&server);
    let text = manager.wait_for("MAINPID=");
    assert!(text.starts_with(&format!("MAINPID={third}\n")), "{text}");
    kill(third, Signal::TERM);
    manager.wait_for("STOPPING=1");
    wait_until("the server ends", || has_ended(third));
}

#[test]
fn a_server_that_has_dropped_privileges_is_upgraded_with_keys_and_files_of_root() {
    if !is_root("an upgrade with --uid") {
        return;
    }
    let site = Site::new();
    let issued = tls::authority().issue(&["localhost"]);
    // As `live/example.org` of certbot: the user cannot even look.
    let private = site.path("closed/private");
    std::fs::create_dir_all(&private).unwrap();
    for (from, name) in [(&issued.cert, "tls.crt"), (&issued.key, "tls.key")] {
        std::fs::copy(from, private.join(name)).unwrap();
    }
    let run = site.path("run");
    std::fs::create_dir(&run).unwrap();
    let closed = site.path("closed");
    for (dir, mode) in [(&closed, 0o700), (&run, 0o755), (&site.path("."), 0o755)] {
        std::fs::set_permissions(dir, PermissionsExt::from_mode(mode)).unwrap();
    }
    let (unix, pidfile) = (run.join("web.sock"), run.join("site.pid"));
    let builder = site.pyserve();
    let probe = builder.path(".");
    std::fs::set_permissions(&probe, PermissionsExt::from_mode(0o777)).unwrap();
    let bind = format!("127.0.0.1:0 https://127.0.0.1:0 unix:{}", unix.display());
    let mut server = builder
        .args(["--uid", "65534", "--gid", "65534"])
        .arg_file("--tls-cert", &private)
        .env("PYSERVE_BIND", bind)
        .env("PYSERVE_PIDFILE", &pidfile)
        .ready();
    for _ in 0..2 {
        let pid = upgrade(&server);
        assert_eq!(server.connect_tls().exchange(get("/")).status(), 200);
        assert_eq!(Connection::unix(&unix).exchange(get("/")).status(), 200);
        let written = std::fs::read_to_string(&pidfile).unwrap();
        assert_eq!(written, format!("{pid}\n"));
    }
    let reloaded = verb(&server, &["reload"]);
    assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);
    // The process that stays root reads the renewed key for the new process, too.
    let renewed = tls::authority().issue(&["localhost", "renewed.test"]);
    for (from, name) in [(&renewed.cert, "tls.crt"), (&renewed.key, "tls.key")] {
        std::fs::copy(from, private.join(name)).unwrap();
        std::fs::set_permissions(private.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let client = tls::authority().client(&["http/1.1"]);
    wait_until("the renewed certificate", || {
        let connection = Connection::tcp(server.tls_port());
        connection.secured(client.clone(), "renewed.test").is_ok()
    });
    server.stderr.wait_for_nth("has finished its requests", 2);
    // Also a third process, whose old one got it from another.
    upgrade(&server);
    let connection = Connection::tcp(server.tls_port());
    let mut connection = connection.secured(client, "renewed.test").unwrap();
    assert_eq!(connection.exchange(get("/")).status(), 200);
    let readers = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.map(|entry| std::fs::read(entry.path().join("cmdline")));
        let is_ours = |line: &Vec<u8>| {
            let text = String::from_utf8_lossy(line);
            text.contains("read-keys") && text.contains(&*private.to_string_lossy())
        };
        lines.flatten().filter(is_ours).count()
    };
    assert_eq!(readers(), 1);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    wait_until("the reader ends with the server", || readers() == 0);
}

/// Without the process that stays root, which was killed here, the pairs come from the old process.
#[test]
fn an_upgraded_server_warns_of_keys_that_it_cannot_read() {
    if !is_root("an upgrade with --uid") {
        return;
    }
    let site = Site::new();
    let issued = tls::authority().issue(&["localhost"]);
    let key = site.path("tls.key");
    std::fs::copy(&issued.key, &key).unwrap();
    let cert = site.path("tls.crt");
    std::fs::copy(&issued.cert, &cert).unwrap();
    for (file, mode) in [(&key, 0o600), (&cert, 0o644), (&site.path("."), 0o755)] {
        std::fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
    }
    let builder = site.pyserve();
    let probe = builder.path(".");
    std::fs::set_permissions(&probe, PermissionsExt::from_mode(0o777)).unwrap();
    let server = builder
        .args(["--uid", "65534", "--gid", "65534"])
        .arg_file("--tls-cert", &cert)
        .arg_file("--tls-key", &key)
        .args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"])
        .ready();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let reader: i32 = pids
        .find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("read-keys") && line.contains(&*key.to_string_lossy())
        })
        .expect("the process that stays root");
    let reader = Pid::from_raw(reader).unwrap();
    kill(reader, Signal::KILL);
    wait_until("the process ends", || has_ended(reader));
    upgrade(&server);
    let warning = server
        .stderr
        .wait_for("a renewed certificate cannot be read after the start");
    assert!(warning.contains(&*key.to_string_lossy()), "{warning}");
    assert_eq!(server.connect_tls().exchange(get("/")).status(), 200);
}
