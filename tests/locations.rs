//! `[[location]]` in `pyserve.toml`: files, applications, redirects and texts side by side.

use crate::frameworks::venv;
use crate::support::backend::{Backend, page};
use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server, post};
use crate::support::{temp_dir, write_files};

/// A server with this `pyserve.toml` and these files in a directory of its own.
fn server(toml: &str, files: &[(&str, &str)], args: &[&str]) -> (Server, tempfile::TempDir) {
    let dir = temp_dir();
    write_files(dir.path(), files);
    write_files(dir.path(), &[("pyserve.toml", toml)]);
    let server = Pyserve::new().current_dir(dir.path()).args(args).ready();
    (server, dir)
}

fn goes_to(response: &Response, status: u16, to: &str) {
    assert_eq!(response.status(), status, "{response:?}");
    assert_eq!(response.header("Location").as_deref(), Some(to));
}

/// An application that says where it is mounted and what is left of the path.
const WHERE: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return ['{SCRIPT_NAME}|{PATH_INFO}'.format(**environ).encode('latin-1')]
";

const FIXED: &str = r#"
    [[location]]
    prefix = "/ping"
    respond = "pong\n"

    [[location]]
    prefix = "/teapot"
    respond = '{"short": true}'
    status = 418
    content_type = "application/json"

    [[location]]
    prefix = "/gone"
    respond = ""
    status = 204

    [[location]]
    prefix = "/old"
    redirect = "/new"
    status = 308

    [[location]]
    prefix = "/root"
    redirect = "/"

    [[location]]
    prefix = "/elsewhere"
    redirect = "https://example.org/base/"

    [[location]]
    prefix = "/once"
    redirect = "/start?from=once"

    [[location]]
    prefix = "/files"
    static = "files"
    missing = "app"

    [[location]]
    prefix = "/files/deep"
    respond = "deeper"
"#;

#[test]
fn texts_are_said_to_everybody() {
    let (server, _dir) = server(FIXED, &[("files/a.txt", "file")], &[]);
    let pong = server.get("/ping");
    assert_eq!((pong.status(), &*pong.text()), (200, "pong\n"));
    let plain = "text/plain; charset=utf-8";
    assert_eq!(pong.header("Content-Type").as_deref(), Some(plain));
    assert!(pong.header("X-Request-ID").is_some());
    assert_eq!(server.get("/%70ing/below?q").text(), "pong\n");
    assert_eq!(server.get("/pingpong").status(), 404);

    let head = server.exchange("HEAD /ping HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(head.header("Content-Length").as_deref(), Some("5"));
    assert_eq!(head.text(), "");
    let teapot = server.exchange(&post("/teapot", "water"));
    assert_eq!(
        (teapot.status(), &*teapot.text()),
        (418, r#"{"short": true}"#)
    );
    let kind = teapot.header("Content-Type");
    assert_eq!(kind.as_deref(), Some("application/json"));
    let gone = server.get("/gone");
    assert_eq!((gone.status(), &*gone.text()), (204, ""));
    assert_eq!(gone.header("Content-Type"), None);
}

/// An application that says which fields it got.
const FIELDS: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    names = ['HTTP_X_SCRIPT_NAME', 'HTTP_COOKIE', 'HTTP_X_TAG', 'HTTP_X_OWN']
    return ['|'.join(environ.get(name, '-') for name in names).encode('latin-1')]
";

#[test]
fn applications_and_servers_get_requests_with_the_fields_of_their_location() {
    let backend = Backend::tcp(|mut call| {
        let head = call.http_head().unwrap_or_default();
        call.send(page(&head));
    });
    let toml = format!(
        r#"
        app = "fields:application"

        [[location]]
        prefix = "/shop"
        pass = "@app"
        request_header = ["X-Script-Name: /shop", "add X-Tag: two", "remove Cookie"]

        [[location]]
        prefix = "/web"
        upstream = "http://{}"
        request_header = ["set X-Script-Name: /web", "remove X-Own", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443"]
        "#,
        backend.address()
    );
    let (server, _dir) = server(&toml, &[("fields.py", FIELDS)], &[]);
    let ask = |target: &str| {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Script-Name: /forged\r\nCookie: c=1\r\nX-Tag: one\r\nX-Own: mine\r\n\r\n"
        );
        server.exchange(&request).text()
    };
    assert_eq!(ask("/"), "/forged|c=1|one|mine");
    let got = ask("/shop/x");
    let got: Vec<_> = got.split('|').collect();
    assert_eq!((got[0], got[1], got[3]), ("/shop", "-", "mine"));
    // RFC 9110 §5.3: fields of one name as one list.
    let tags: Vec<_> = got[2].split(',').map(str::trim).collect();
    assert_eq!(tags, ["one", "two"]);
    let sent = ask("/web/x").to_lowercase();
    assert!(sent.contains("x-script-name: /web\r\n"), "{sent}");
    assert!(sent.contains("cookie: c=1\r\n"), "{sent}");
    for (name, value) in [("proto", "https"), ("port", "443")] {
        let name = format!("x-forwarded-{name}: ");
        assert_eq!(sent.matches(&name).count(), 1, "{sent}");
        assert!(sent.contains(&format!("{name}{value}\r\n")), "{sent}");
    }
    assert!(
        !sent.contains("/forged") && !sent.contains("x-own"),
        "{sent}"
    );
    for wrong in ["Host: x", "add X-Forwarded-Proto: https", "X_A: b", "X:"] {
        let toml = format!(
            "[[location]]\nprefix = '/a'\nupstream = 'http://127.0.0.1:1'\nrequest_header = '{wrong}'\n"
        );
        let dir = temp_dir();
        write_files(dir.path(), &[("pyserve.toml", &toml)]);
        let ended = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
        assert_eq!(ended.code, 78, "{wrong}: {}", ended.stderr);
    }
}

const FACTS: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    names = ['HTTP_X_REAL_IP', 'HTTP_X_URL', 'HTTP_X_ID', 'DEPLOYMENT', 'X-Token']
    same = environ['HTTP_X_REQUEST_ID'] == environ.get('HTTP_X_ID')
    return ['|'.join([environ.get(name, '-') for name in names] + [str(same)]).encode('latin-1')]
";

#[test]
fn fields_of_requests_have_facts_about_them_and_applications_variables() {
    let backend = Backend::tcp(|mut call| {
        let head = call.http_head().unwrap_or_default();
        call.send(page(&head));
    });
    let toml = format!(
        r#"
        app = "facts:application"

        [[location]]
        prefix = "/in"
        pass = "@app"
        request_header = [
            "X-Real-IP: {{client}}",
            "X-Url: {{scheme}}://{{host}}{{target}}",
            "X-Id: {{request_id}}",
        ]
        uwsgi_param = ["DEPLOYMENT=blue", "X-Token=a=b"]

        [[location]]
        prefix = "/out"
        upstream = "http://{}"
        request_header = ["X-Real-IP: {{client}}", "X-Asked: {{authority}} {{port}}"]
        "#,
        backend.address()
    );
    let (server, _dir) = server(&toml, &[("facts.py", FACTS)], &[]);
    let ask = |target: &str| {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: Shop.example:81\r\nConnection: close\r\nX-Real-IP: 192.0.2.1\r\n\r\n"
        );
        server.exchange(&request).text()
    };
    assert_eq!(ask("/"), "-|-|-|-|-|False");
    let got = ask("/in/a%20b?c=d");
    let got: Vec<_> = got.split('|').collect();
    assert_eq!(got[0], "127.0.0.1");
    assert_eq!(got[1], "http://shop.example/in/a%20b?c=d");
    assert_eq!(got[3..], ["blue", "a=b", "True"]);
    let sent = ask("/out/x").to_lowercase();
    assert!(sent.contains("x-real-ip: 127.0.0.1\r\n"), "{sent}");
    let asked = format!("x-asked: shop.example:81 {}\r\n", server.port());
    assert!(sent.contains(&asked), "{sent}");
    for wrong in ["A", "REMOTE_ADDR=1", "HTTP_HOST=a", "UWSGI_SCHEME=https"] {
        let toml = format!(
            "app = 'facts:application'\n[[location]]\nprefix = '/a'\npass = '@app'\nuwsgi_param = '{wrong}'\n"
        );
        let dir = temp_dir();
        write_files(dir.path(), &[("pyserve.toml", &toml), ("facts.py", FACTS)]);
        let ended = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
        assert_eq!(ended.code, 78, "{wrong}: {}", ended.stderr);
    }
}

#[test]
fn the_counts_of_a_location_are_those_of_nginx_s_stub_status() {
    let toml = "app = 'facts:application'\n[[location]]\npath = '/status'\nstub_status = true\naccess = ['allow 127.0.0.1', 'deny all']\n";
    let (server, _dir) = server(toml, &[("facts.py", FACTS)], &[]);
    let ask = |method: &str, target: &str| {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        server.exchange(&request)
    };
    assert_eq!(ask("GET", "/").status(), 200);
    let response = ask("GET", "/status");
    assert_eq!(
        response.header("Content-Type").as_deref(),
        Some("text/plain")
    );
    let text = response.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("Active connections: "), "{text}");
    assert_eq!(lines[1], "server accepts handled requests");
    let numbers: Vec<u64> = lines[2]
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(numbers[0] >= 2 && numbers[0] == numbers[1], "{text}");
    assert!(numbers[2] >= 2, "{text}");
    assert!(
        lines[3].starts_with("Reading: 0 Writing: 1 Waiting: "),
        "{text}"
    );
    assert_eq!(ask("POST", "/status").status(), 405);
}

#[test]
fn a_page_answers_for_its_name_without_the_ending() {
    let toml = "[[location]]\nprefix = '/'\nstatic = 'site'\nhtml = true\n[[location]]\nprefix = '/plain'\nstatic = 'site'\n";
    let files = [
        ("site/index.html", "home"),
        ("site/about.html", "about"),
        ("site/both", "the file"),
        ("site/both.html", "the page"),
        ("site/docs/index.html", "docs"),
        ("site/docs/first.html", "first"),
        ("site/.html", "hidden"),
    ];
    let (server, _dir) = server(toml, &files, &[]);
    for (target, expected) in [
        ("/", "home"),
        ("/about", "about"),
        ("/about?x=1", "about"),
        ("/about.html", "about"),
        ("/both", "the file"),
        ("/docs/", "docs"),
        ("/docs/first", "first"),
    ] {
        let answer = server.get(target);
        assert_eq!(
            (answer.status(), &*answer.text()),
            (200, expected),
            "{target}"
        );
        let kind = answer.header("Content-Type").unwrap_or_default();
        assert!(
            target == "/both" || kind.starts_with("text/html"),
            "{target}: {kind}"
        );
    }
    for target in [
        "/none",
        "/about/",
        "/plain/about",
        "/.html",
        "/docs/none",
        "/about%00",
    ] {
        assert_ne!(server.get(target).status(), 200, "{target}");
    }
    goes_to(&server.get("/docs?x=1"), 301, "/docs/?x=1");
}

#[test]
fn redirects_keep_path_and_query_but_never_leave_their_host() {
    let (server, _dir) = server(FIXED, &[("files/a.txt", "file")], &[]);
    for (target, status, to) in [
        ("/old", 308, "/new"),
        ("/old/a/b?c=d&e", 308, "/new/a/b?c=d&e"),
        ("/old%2Fa", 308, "/new/a"),
        ("/root", 302, "/"),
        ("/root//evil.example", 302, "/evil.example"),
        ("/root/%2F/evil.example", 302, "/%2F/evil.example"),
        ("/root%2F/evil.example", 302, "/evil.example"),
        ("/elsewhere", 302, "https://example.org/base/"),
        ("/elsewhere/a?b", 302, "https://example.org/base/a?b"),
        ("/once/a?b", 302, "/start?from=once"),
    ] {
        goes_to(&server.get(target), status, to);
    }
    goes_to(
        &server.exchange(&post("/old/form", "x=1")),
        308,
        "/new/form",
    );
}

#[test]
fn the_longest_prefix_answers_whatever_it_is() {
    let (server, _dir) = server(
        FIXED,
        &[
            ("files/a.txt", "file"),
            ("files/deep/a.txt", "hidden by a location"),
        ],
        &[],
    );
    assert_eq!(server.get("/files/a.txt").text(), "file");
    assert_eq!(server.get("/files/deep/a.txt").text(), "deeper");
    // Left to the application, where there is none.
    assert_eq!(server.get("/files/missing").status(), 404);
    assert_eq!(server.get("/").status(), 404);
    server.stderr.wait_for("/old -> redirect 308 to /new");
}

#[test]
fn an_application_answers_what_no_location_does() {
    let files = [("files/a.txt", "file"), ("app.py", WHERE)];
    let (server, _dir) = server(FIXED, &files, &[]);
    assert_eq!(server.get("/ping").text(), "pong\n");
    assert_eq!(server.get("/files/a.txt").text(), "file");
    for target in ["/", "/files/missing", "/pingpong"] {
        assert_eq!(server.get(target).text(), format!("|{target}"));
    }
}

#[test]
fn check_shows_the_locations() {
    let dir = temp_dir();
    write_files(dir.path(), &[("pyserve.toml", FIXED), ("files/a.txt", "")]);
    let ended = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let shown = ended.stdout;
    for line in [
        "/files/deep -> respond 200 \"deeper\"",
        "/elsewhere -> redirect 302 to https://example.org/base/ and the rest of the path",
        "/once -> redirect 302 to /start?from=once\n",
        "/files -> files in ",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

const TWO_PROJECTS_AND_FLASK: &str = r#"
    workers = 1

    [[location]]
    prefix = "/shop"
    app = "shop.wsgi"
    chdir = "one"

    [[location]]
    prefix = "/café"
    app = "blog.wsgi:application"
    chdir = "two"
    env = { NAME_OF_BLOG = "the café" }

    [[location]]
    app = "site.py"

    [[location]]
    prefix = "/whole"
    app = "where"
    strip_prefix = false
    max_body = 10
"#;

/// A Django project with one view that says which settings rule and what it builds.
fn project(name: &str, folder: &str) -> Vec<(String, String)> {
    let settings = format!(
        "import os
SECRET_KEY = 'of the tests'
ALLOWED_HOSTS = ['*']
ROOT_URLCONF = '{name}.urls'
INSTALLED_APPS = ['django.contrib.staticfiles']
STATIC_URL = 'static/'
STATIC_ROOT = os.path.join(os.path.dirname(__file__), 'collected')
NAME = os.environ.get('NAME_OF_BLOG', '{name}')
"
    );
    let urls = "
from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.templatetags.static import static
from django.urls import path, reverse

def page(request):
    return HttpResponse('|'.join([
        settings.NAME, settings.SETTINGS_MODULE, request.path, reverse('page'), static('site.css'),
        request.META['REQUEST_URI'],
    ]))

urlpatterns = [
    path('', page),
    path('page/', page, name='page'),
    path('go/', lambda request: HttpResponseRedirect(reverse('page'))),
]
";
    let wsgi = format!(
        "import os
os.environ.setdefault('DJANGO_SETTINGS_MODULE', '{name}.settings')
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"
    );
    let file = |path: &str, text: &str| (format!("{folder}/{name}/{path}"), text.to_owned());
    vec![
        file("settings.py", &settings),
        file("urls.py", urls),
        file("wsgi.py", &wsgi),
        file("collected/site.css", &format!("of {name}")),
    ]
}

#[test]
fn several_applications_are_mounted_side_by_side() {
    let Some(venv) = venv("several applications in one server") else {
        return;
    };
    let flask = "
from flask import Flask, redirect, request, url_for
app = Flask(__name__)

@app.route('/')
def index():
    return request.script_root + '|' + url_for('index') + '|' + url_for('static', filename='x')

@app.route('/go')
def go():
    return redirect(url_for('index'))
";
    let files = [project("shop", "one"), project("blog", "two")].concat();
    let mut files: Vec<_> = files
        .iter()
        .map(|(path, text)| (&**path, &**text))
        .collect();
    files.extend([("site.py", flask), ("where.py", WHERE)]);
    let venv = venv.to_str().unwrap();
    let dir = temp_dir();
    write_files(dir.path(), &files);
    write_files(dir.path(), &[("pyserve.toml", TWO_PROJECTS_AND_FLASK)]);
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .without("PYSERVE_WORKERS")
        .current_dir(dir.path())
        .args(["--venv", venv])
        .ready();
    for (target, expected) in [
        (
            "/shop/?q",
            "shop|shop.settings|/shop/|/shop/page/|/shop/static/site.css|/shop/?q",
        ),
        (
            "/shop",
            "shop|shop.settings|/shop/|/shop/page/|/shop/static/site.css|/shop",
        ),
        (
            "/caf%C3%A9/page/",
            "the café|blog.settings|/café/page/|/caf%C3%A9/page/|/café/static/site.css|/caf%C3%A9/page/",
        ),
        ("/", "|/|/static/x"),
        ("/whole/a%20b", "|/whole/a b"),
        ("/shop/static/site.css", "of shop"),
        ("/caf%C3%A9/static/site.css", "of blog"),
    ] {
        let answer = server.get(target);
        assert_eq!(
            (answer.status(), str::from_utf8(&answer.body).unwrap()),
            (200, expected),
            "{target}"
        );
    }
    goes_to(&server.get("/shop/go/"), 302, "/shop/page/");
    goes_to(&server.get("/caf%C3%A9/go/"), 302, "/caf%C3%A9/page/");
    goes_to(&server.get("/go"), 302, "/");
    assert_eq!(server.get("/shopping").status(), 404, "by Flask");
    // Django does not know the path, and its file does not exist.
    assert_eq!(server.get("/shop/static/none.css").status(), 404);
    assert_eq!(server.exchange(&post("/whole", "0123456789")).status(), 200);
    assert_eq!(
        server.exchange(&post("/whole", "01234567890")).status(),
        413
    );
    server
        .stderr
        .wait_for("/shop -> shop.wsgi:application (Django");
}

#[test]
fn one_application_that_cannot_be_imported_ends_the_start_with_its_traceback() {
    let dir = temp_dir();
    let toml = "
        [[location]]
        prefix = '/good'
        app = 'where.py'
        [[location]]
        prefix = '/bad'
        app = 'bad.py'
    ";
    let bad = "import nothing_of_this_name";
    write_files(
        dir.path(),
        &[("pyserve.toml", toml), ("where.py", WHERE), ("bad.py", bad)],
    );
    for verb in ["serve", "check"] {
        let ended = Pyserve::new().current_dir(dir.path()).args([verb]).run();
        assert_eq!(ended.code, 4, "{}", ended.stderr);
        assert!(
            ended.stderr.contains("nothing_of_this_name"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn the_death_of_one_applications_worker_is_nothing_to_another() {
    let dir = temp_dir();
    let toml = "
        [[location]]
        prefix = '/a'
        app = 'where.py'
        [[location]]
        prefix = '/b'
        app = 'dies.py'
    ";
    let dies = "import os\ndef application(environ, start_response):\n    os._exit(1)";
    write_files(
        dir.path(),
        &[
            ("pyserve.toml", toml),
            ("where.py", WHERE),
            ("dies.py", dies),
        ],
    );
    let server = Pyserve::new().current_dir(dir.path()).ready();
    assert_eq!(server.get("/b").status(), 502);
    assert_eq!(server.get("/a/x").text(), "/a|/x");
}

/// Settings with a location of each kind.
fn each_kind(uwsgi: &str, http: &str) -> String {
    format!(
        r#"
        app = "shop.wsgi"
        chdir = "one"

        [[location]]
        prefix = "/api"
        upstream = "uwsgi+{uwsgi}"

        [[location]]
        prefix = "/mounted"
        upstream = "uwsgi+{uwsgi}"
        strip_prefix = true
        max_body = 10

        [[location]]
        prefix = "/web"
        upstream = ["http://{http}"]

        [[location]]
        prefix = "/old"
        redirect = "/page"

        [[location]]
        prefix = "/ping"
        respond = "pong"

        [[location]]
        prefix = "/files"
        static = "."
        missing = "index.html"
    "#,
    )
}

#[test]
fn embedded_django_uwsgi_http_files_redirects_and_texts_stand_side_by_side() {
    let Some(venv) = venv("every kind of location in one server") else {
        return;
    };
    let uwsgi = Backend::unix(|mut call| {
        let packet = call.packet();
        let script_name = packet.vars.get("SCRIPT_NAME").cloned();
        let path = &packet.vars["PATH_INFO"];
        let said = format!("{}|{path}", script_name.unwrap_or_default());
        call.send(page(&said));
    });
    let http = Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            let line = head.lines().next().unwrap_or_default().to_owned();
            call.send(page(&line));
        }
    });
    let toml = each_kind(uwsgi.address(), http.address());
    let files = project("shop", "one");
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (&**path, &**text))
        .collect();
    let dir = temp_dir();
    write_files(dir.path(), &files);
    let more = [
        ("pyserve.toml", &*toml),
        ("one/a.txt", "a file"),
        ("one/index.html", "index"),
    ];
    write_files(dir.path(), &more);
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .current_dir(dir.path())
        .args(["--venv", venv.to_str().unwrap()])
        .ready();
    for (target, expected) in [
        ("/", "shop|shop.settings|/|/page/|/static/site.css|/"),
        ("/static/site.css", "of shop"),
        ("/api/x%20y?q", "|/api/x y"),
        ("/mounted/x%20y?q", "/mounted|/x y"),
        ("/web/x%20y?q", "GET /web/x%20y?q HTTP/1.1"),
        ("/ping", "pong"),
        ("/files/a.txt", "a file"),
        ("/files/somewhere", "index"),
    ] {
        let answer = server.get(target);
        assert_eq!(
            (answer.status(), &*answer.text()),
            (200, expected),
            "{target}"
        );
    }
    goes_to(&server.get("/old/?q"), 302, "/page/?q");
    assert_eq!(
        server.exchange(&post("/mounted", "01234567890")).status(),
        413
    );
}

/// A server with locations inside others, some of which answer 403.
fn protected(http: &Backend) -> (Server, tempfile::TempDir) {
    let toml = format!(
        r#"
        [[location]]
        prefix = "/"
        upstream = "http://{}"

        [[location]]
        prefix = "/private"
        respond = "forbidden"
        status = 403

        [[location]]
        prefix = "/app"
        app = "where.py"

        [[location]]
        prefix = "/app/private"
        respond = "forbidden"
        status = 403

        [[location]]
        prefix = "/files"
        static = "files"
        "#,
        http.address()
    );
    let files = [
        ("where.py", WHERE),
        ("files/a.txt", "a file"),
        ("secret.txt", "SECRET"),
    ];
    server(&toml, &files, &[])
}

/// A location protects its paths from every spelling that a server behind another location
/// may resolve to one of them.
#[test]
fn no_spelling_of_a_path_goes_past_its_location() {
    let http = Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            let line = head.lines().next().unwrap_or_default().to_owned();
            call.send(page(&line));
        }
    });
    let (server, _dir) = protected(&http);
    for target in [
        "/private/f",
        "/x/../private/f",
        "//private/f",
        "/%2e/private/f",
        "/x/%2e%2e/private/f",
        "/x/.%2E/%70rivate/f",
        "/x%2f..%2fprivate/f",
        "/./private",
        "/x//y//..//../private?q",
        "/app/../private/f",
        "/files/../private/f",
        "/app/x/../private/f",
        "/app//private/f",
        "/app/%2e/private/f",
        "//app/private/f",
    ] {
        assert_eq!(server.get(target).status(), 403, "{target}");
    }
    for target in [
        "/..",
        "/../private/f",
        "/a/../../private/f",
        "/%2e%2e/x",
        "/app/../../app",
    ] {
        assert_eq!(server.get(target).status(), 400, "{target}");
    }
    for (target, expected) in [
        // HTTP upstreams get what the client sent.
        (
            "/a/../b//c/%2e?q=/../",
            "GET /a/../b//c/%2e?q=/../ HTTP/1.1",
        ),
        ("/private/../b", "GET /private/../b HTTP/1.1"),
        ("/privateer/x", "GET /privateer/x HTTP/1.1"),
        // Applications get what is behind their prefix as it was sent,
        ("/app/http://h/../x//y", "/app|/http://h/../x//y"),
        ("/app//x/./y", "/app|//x/./y"),
        // else the normal form.
        ("/x/../app/y%2520", "/app|/y%20"),
        ("//app//y/.", "/app|/y/"),
        ("/files/../app/y", "/app|/y"),
        // Files are looked up by the normal form.
        ("/files/a.txt", "a file"),
        ("/files/x/../a.txt", "a file"),
        ("/files//./a.txt", "a file"),
        ("/x/../files/a.txt", "a file"),
        ("/app/..%2ffiles/%61.txt", "a file"),
    ] {
        let answer = server.get(target);
        assert_eq!(
            (answer.status(), &*answer.text()),
            (200, expected),
            "{target}"
        );
    }
    assert_eq!(
        server.get("/files/x/..%2f..%2fsecret.txt").text(),
        "GET /files/x/..%2f..%2fsecret.txt HTTP/1.1"
    );
}
