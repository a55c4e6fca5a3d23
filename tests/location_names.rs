//! Named locations: `pass = "@NAME"` and `missing = "@NAME"`.

use tempfile::TempDir;

use crate::support::backend::{Backend, page};
use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server, post};
use crate::support::versions::{Way, ask, get};
use crate::support::{temp_dir, write_files};

fn server(toml: &str, files: &[(&str, &str)]) -> (Server, TempDir) {
    let dir = temp_dir();
    write_files(dir.path(), files);
    write_files(dir.path(), &[("pyserve.toml", toml)]);
    let server = Pyserve::new().current_dir(dir.path()).ready();
    (server, dir)
}

/// Answers with its process, its mount and the path below it.
const APP: &str = "
import os
def application(environ, start_response):
    environ['wsgi.input'].read()
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return ['{}|{SCRIPT_NAME}|{PATH_INFO}'.format(os.getpid(), **environ).encode('latin-1')]
";

const SITE: &str = "
    app = 'app.py'
    max_body = 10

    [[location]]
    prefix = '/upload'
    pass = '@app'
    max_body = 1000
    header = 'X-Upload: yes'

    [[location]]
    prefix = '/files'
    static = 'files'
    missing = '@app'

    [[location]]
    prefix = '/media'
    static = 'files'
    missing = '@old-media'
    header = 'X-Media: yes'

    [[location]]
    prefix = '/down'
    static = 'files'
    missing = '@down'

    [[location]]
    name = 'old-media'
    upstream = 'http://ADDRESS'
    header = 'X-Old: yes'

    [[location]]
    name = 'down'
    respond = 'down'
    status = 503

    [[location]]
    path = '/old-too'
    pass = '@old-media'

    [[location]]
    prefix = '/shop'
    app = 'app.py'
    name = 'shop'

    [[location]]
    prefix = '/shop/cart'
    pass = '@shop'
    ";

fn backend() -> Backend {
    Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            let target = head.split(' ').nth(1).unwrap_or_default();
            call.send(page(&format!("old {target}")));
        }
    })
}

#[test]
fn locations_share_an_application_with_settings_of_their_own() {
    let backend = backend();
    let toml = SITE.replace("ADDRESS", backend.address());
    let (server, _dir) = server(&toml, &[("app.py", APP), ("files/a", "a")]);
    let process = |response: &str| response.split('|').next().map(str::to_owned);
    for way in Way::ALL {
        let root = get(&server, way, "/x/y").body;
        let upload = get(&server, way, "/upload/y");
        assert_eq!(
            upload.body,
            root.replace("/x/y", "/upload/y"),
            "one process, one mount"
        );
        assert_eq!(upload.value("x-upload"), "yes");
        let shop = get(&server, way, "/shop/x").body;
        assert!(shop.ends_with("|/shop|/x"), "{shop}");
        assert_ne!(process(&shop), process(&root), "an application of its own");
        let cart = get(&server, way, "/shop/cart/x").body;
        assert_eq!(cart, shop.replace("|/x", "|/cart/x"));
        assert_eq!(get(&server, way, "/old-too?q").body, "old /old-too?q");
        assert_eq!(
            get(&server, way, "/old-too").value("x-old"),
            "",
            "rules of its own"
        );
    }
    let status = |target: &str| -> Response { server.exchange(&post(target, &"x".repeat(500))) };
    assert_eq!(status("/x").status(), 413);
    assert_eq!(status("/upload").status(), 200);
    assert_eq!(status("/files/x").status(), 413);
}

#[test]
fn paths_without_a_file_go_to_a_named_location_that_no_path_reaches() {
    let backend = backend();
    let toml = SITE.replace("ADDRESS", backend.address());
    let (server, _dir) = server(&toml, &[("app.py", APP), ("files/a", "file a")]);
    for way in Way::ALL {
        for (target, status, body) in [
            ("/media/a", 200, "file a"),
            ("/media/b?q", 200, "old /media/b?q"),
            ("/media/.env", 200, "old /media/.env"),
            ("/media/%ff", 200, "old /media/%ff"),
            ("/down/a", 200, "file a"),
            ("/down/b", 503, "down"),
            ("/@down", 200, ""),
            ("/@old-media/x", 200, ""),
        ] {
            let answer = get(&server, way, target);
            assert_eq!(answer.status, status, "{target} {way:?}: {answer:?}");
            match body {
                // The application of the whole site.
                "" => assert!(answer.body.ends_with(&format!("||{target}")), "{answer:?}"),
                body => assert_eq!(answer.body, body, "{target} {way:?}"),
            }
        }
        // The rules of the location that answers.
        let (there, missing) = (get(&server, way, "/media/a"), get(&server, way, "/media/b"));
        assert_eq!(
            (&*there.value("x-media"), &*there.value("x-old")),
            ("yes", "")
        );
        assert_eq!(
            (&*missing.value("x-media"), &*missing.value("x-old")),
            ("", "yes")
        );
        let app = get(&server, way, "/files/b").body;
        assert!(app.ends_with("||/files/b"), "{app}");
        let delete = ask(&server, way, "DELETE", "localhost", "/media/a");
        assert_eq!(delete.body, "old /media/a", "as with `missing = 'app'`");
    }
}

#[test]
fn one_application_answers_on_several_hosts_with_different_settings() {
    let toml = "
        [[location]]
        name = 'site'
        app = 'app.py'

        [[location]]
        host = 'a.test'
        pass = '@site'
        header = 'X-Host: a'

        [[location]]
        host = 'b.test'
        pass = '@site'
        header = 'X-Host: b'

        [[location]]
        host = 'b.test'
        prefix = '/static'
        static = 'files'
        missing = '@site'
        ";
    let (server, dir) = server(toml, &[("app.py", APP), ("files/a", "file a")]);
    for way in Way::ALL {
        let a = ask(&server, way, "GET", "a.test", "/x");
        let b = ask(&server, way, "GET", "b.test", "/x");
        assert_eq!((&*a.value("x-host"), &*b.value("x-host")), ("a", "b"));
        assert_eq!(a.body, b.body);
        assert_eq!(ask(&server, way, "GET", "c.test", "/x").status, 421);
        assert_eq!(
            ask(&server, way, "GET", "b.test", "/static/a").body,
            "file a"
        );
        let missing = ask(&server, way, "GET", "b.test", "/static/b").body;
        assert!(missing.ends_with("||/static/b"), "{missing}");
    }
    server.signal(rustix::process::Signal::HUP);
    server.stderr.wait_for("reloaded in");
    assert_eq!(ask(&server, Way::Http1, "GET", "a.test", "/x").status, 200);
    let checked = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    for line in ["@site -> app ", "a.test / -> app ", "else @site"] {
        assert!(checked.stdout.contains(line), "{}", checked.stdout);
    }
}

#[test]
fn names_that_lead_nowhere_end_the_start() {
    let named = "[[location]]\nname = 'x'\nrespond = 'a'\n";
    for (toml, problem) in [
        (
            "[[location]]\npass = '@none'".to_owned(),
            "no upstream server has this name",
        ),
        ("[[location]]\npass = 'app'".to_owned(), "no `@`"),
        (
            format!("{named}[[location]]\npass = '@x'"),
            "no upstream server has this name",
        ),
        (
            format!("{named}{named}"),
            "another location has this name (pyserve.toml:1)",
        ),
        (
            "[[location]]\nname = 'a b'\nrespond = ''".to_owned(),
            "not the name of a location",
        ),
        (
            "[[location]]\nname = 'a'\nstatic = 'files'".to_owned(),
            "files have no name",
        ),
        (
            "[[location]]\nstatic = 'files'\nmissing = '@a'".to_owned(),
            "no location has this name",
        ),
        (
            "static_missing = '@a'\n[[location]]\nstatic = 'files'".to_owned(),
            "static_missing",
        ),
        (
            "upstream = 'http://a'\n[[location]]\nname = 'app'\nrespond = ''".to_owned(),
            "it is the name of the server of --upstream",
        ),
        (
            "[[location]]\nname = 'a'\nprefix = '/a'\nupstream = 'http://a'\nstrip_prefix = true\n\
             [[location]]\nprefix = '/b'\npass = '@a'"
                .to_owned(),
            "its prefix is not part of this path",
        ),
        (
            "upstream = 'http://a'\n[[location]]\nprefix = '/b'\npass = '@app'\nworkers = 2"
                .to_owned(),
            "it belongs to app",
        ),
    ] {
        let dir = temp_dir();
        write_files(dir.path(), &[("pyserve.toml", &toml), ("files/a", "")]);
        let ended = Pyserve::new().current_dir(dir.path()).run();
        assert_eq!(ended.code, 78, "{toml}: {}", ended.stderr);
        assert!(ended.stderr.contains(problem), "{toml}: {}", ended.stderr);
    }
}
