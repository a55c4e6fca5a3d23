//! Tests of the `[[location]]` tables: what they become, and what is refused.

use std::time::Duration;

use super::super::Missing;
use super::super::locations::Handler;
use super::super::upstream::Protocol;
use super::tests::Setup;

fn setup(text: &str) -> Setup {
    Setup::new(&[
        ("pyserve.toml", text),
        ("files/x", ""),
        ("static/y", ""),
        ("hello.wsgi", ""),
    ])
}

fn lines(text: &str) -> String {
    let setup = setup(text);
    let lines = setup.config(&[]).location_lines().join("\n");
    setup.shorten(&lines)
}

fn check_error(text: &str, expected: &str) {
    assert_eq!(setup(text).error(&[]), expected, "{text}");
}

#[test]
fn tables_become_locations() {
    let text = "
        [[location]]
        redirect = 'https://example.org'

        [[location]]
        prefix = '/old/'
        redirect = '/new#top'
        status = 301

        [[location]]
        prefix = '/ping'
        respond = 'pong'

        [[location]]
        prefix = '/static'
        static = 'files'
        missing = 'app'
        max_age = '1h'
        ";
    assert_eq!(
        lines(text),
        "/static -> files in files, else what answers without it\n\
         /ping -> respond 200 \"pong\"\n\
         /old -> redirect 301 to /new#top\n\
         / -> redirect 302 to https://example.org and the rest of the path"
    );
    let config = setup(text).config(&[]);
    assert!(config.apps.is_empty(), "a location answers in its place");
    let [files] = config.static_locations.as_slice() else {
        panic!(
            "the predefined one gives way: {:?}",
            config.static_locations
        );
    };
    assert_eq!(files.missing, Missing::App);
    assert_eq!(files.max_age, Some(Duration::from_secs(3600)));
    assert!(matches!(
        &config.locations[2].handler,
        Handler::Respond(respond) if respond.content_type == "text/plain; charset=utf-8"
    ));
}

#[test]
fn redirects_that_go_round_in_circles_are_refused() {
    let table = |prefix: &str, rest: &str| format!("[[location]]\nprefix = '{prefix}'\n{rest}\n");
    let redirect = |prefix: &str, to: &str| table(prefix, &format!("redirect = '{to}'"));
    let app = table("/app", "app = 'hello.wsgi'");
    for endless in [
        redirect("/old", "/old"),
        redirect("/old", "/old/"),
        redirect("/old", "/old?again"),
        redirect("/old", "/old/new"),
        table("/old", "redirect = '/old/new'\nkeep_path = false"),
        redirect("/", "/login"),
        redirect("/a", "/b") + &redirect("/b", "/a"),
        redirect("/a", "/b") + &redirect("/b", "/c/x") + &redirect("/c", "/a"),
    ] {
        let error = setup(&endless).error(&[]);
        assert!(error.contains("in circles"), "{endless}: {error}");
        assert!(error.contains("[[location]] redirect"), "{error}");
    }
    for good in [
        redirect("/old", "/older"),
        redirect("/old", "/"),
        redirect("/old", "https://example.org/old"),
        redirect("/", "/app"),
        redirect("/a", "/b") + &redirect("/b", "/app/a"),
        redirect("/a", "/a/files") + &table("/a/files", "static = 'files'"),
        redirect("/", "/x") + &table("/", "static = 'files'\nmissing = 'app'"),
    ] {
        setup(&format!("{app}{good}")).config(&[]);
    }
}

#[test]
fn a_page_for_missing_files_that_is_missing_itself_is_warned_of() {
    let table = |missing: &str| {
        format!("[[location]]\nprefix = '/a'\nstatic = 'files'\nmissing = '{missing}'\n")
    };
    for (text, flags, lacks) in [
        (table("x"), &[][..], None),
        (table("app"), &[], None),
        (table("y"), &[], Some("/a, y,")),
        (table("404"), &["--static-missing", "/static=y"], None),
        (
            table("404"),
            &["--static-missing", "/static=nofile.html"],
            Some("/static, nofile.html,"),
        ),
        // One of all locations has it.
        (table("404"), &["--static-missing", "y"], None),
        (
            table("404"),
            &["--static-missing", "z"],
            Some("/static, z,"),
        ),
    ] {
        let warnings = setup(&text).config(flags).warnings;
        match lacks {
            None => assert_eq!(warnings, [""; 0], "{text} {flags:?}"),
            Some(part) => assert!(
                warnings.len() == 1 && warnings[0].contains(part),
                "{text} {flags:?}: {warnings:?}"
            ),
        }
    }
}

#[test]
fn what_is_said_about_all_files_gives_way_to_the_table() {
    let text = "
        static_missing = 'app'
        static_max_age = 5
        [[location]]
        prefix = '/a'
        static = 'files'
        missing = 'x'
        [[location]]
        prefix = '/b'
        static = 'files'
        max_age = 7
        ";
    let config = setup(text).config(&[]);
    let of = |prefix: &str| {
        let mut all = config.static_locations.iter();
        all.find(|location| location.prefix == prefix).unwrap()
    };
    assert_eq!(of("/a").missing, Missing::Page("x".into()));
    assert_eq!(of("/a").max_age, Some(Duration::from_secs(5)));
    assert_eq!(of("/b").missing, Missing::App);
    assert_eq!(of("/b").max_age, Some(Duration::from_secs(7)));
    assert_eq!(of("/static").missing, Missing::App);
}

#[test]
fn a_static_location_may_stand_beside_another_of_its_prefix_if_it_leaves_something_to_it() {
    let text = "
        [[location]]
        static = 'files'
        missing = 'app'
        [[location]]
        respond = 'x'
        ";
    assert_eq!(setup(text).config(&[]).locations.len(), 1);
}

#[test]
fn applications_have_settings_of_their_own() {
    let text = "
        threads = 3
        [[location]]
        prefix = '/shop'
        app = 'shop.wsgi'
        chdir = 'shop'
        workers = 2
        env = { DJANGO_SETTINGS_MODULE = 'shop.live', A = 1 }
        pythonpath = ['lib', '.']
        max_body = '1K'

        [[location]]
        prefix = '/blog'
        app = 'hello.wsgi:app'
        threads = 1
        strip_prefix = false
        django_static = false
        queue_limit = 7
        ";
    let setup = Setup::new(&[
        ("pyserve.toml", text),
        ("shop/shop/wsgi.py", ""),
        ("shop/lib/x.py", ""),
        ("hello.wsgi", ""),
        ("app.py", "app = 'not looked for'"),
    ]);
    let config = setup.config(&[]);
    let [shop, blog] = config.apps.as_slice() else {
        panic!("two applications: {:?}", config.apps);
    };
    assert_eq!(
        (shop.app.to_string(), &*shop.mount),
        ("shop.wsgi".into(), "/shop")
    );
    assert_eq!(setup.shorten(&shop.chdir.display().to_string()), "shop");
    assert_eq!((shop.workers.count, shop.threads), (2, 3));
    assert_eq!(shop.workers.reason, "2, set by pyserve.toml:7");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let env = [pair("A", "1"), pair("DJANGO_SETTINGS_MODULE", "shop.live")];
    assert_eq!(shop.env, env);
    assert_eq!(shop.pythonpath.len(), 2);
    assert_eq!(config.locations[0].settings.max_body, 1024);
    assert_eq!(
        config.locations[0].settings.body_timeout,
        config.location_settings.body_timeout
    );

    assert_eq!(&*blog.mount, "", "it finds the prefix in its path");
    assert_eq!(
        (blog.threads, blog.queue_limit, blog.django_static),
        (1, 7, false)
    );
    assert_eq!(blog.chdir, config.chdir);
    // Two CPUs for two applications that do not say how many workers they want.
    assert_eq!((blog.workers.count, blog.workers.most), (1, 16));
    assert_eq!((shop.workers.count, shop.workers.most), (2, 2));
    assert_eq!(config.place_of(1), "/blog");
}

#[test]
fn servers_behind_it_have_settings_of_their_own() {
    let text = "
        upstream_read_timeout = 9
        [[location]]
        prefix = '/api'
        upstream = ['http://127.0.0.1:8001', 'http+unix:/run/api.sock']
        upstream_connect_timeout = 2
        buffering = false
        request_buffering = false
        [[location]]
        upstream = 'uwsgi+unix:/run/uwsgi.sock'
        uwsgi_modifier1 = 30
        ";
    let config = setup(text).config(&[]);
    assert!(config.apps.is_empty(), "none is looked for");
    let of = |index: usize| match &config.locations[index].handler {
        Handler::Upstream(upstream) => upstream.clone(),
        other => panic!("{other:?}"),
    };
    let seconds = Duration::from_secs;
    let (api, rest) = (of(0), of(1));
    assert_eq!((api.servers.len(), rest.servers.len()), (2, 1));
    assert_eq!(
        (api.timeouts.connect, api.timeouts.read),
        (seconds(2), seconds(9))
    );
    assert_eq!(rest.timeouts.read, seconds(9));
    assert!(!config.locations[0].settings.buffering && config.locations[1].settings.buffering);
    assert!(!config.locations[0].settings.request_buffering);
    assert!(config.locations[1].settings.request_buffering);
    assert!(matches!(rest.protocol, Protocol::Uwsgi(uwsgi) if uwsgi.modifier1 == 30));
}

#[test]
fn a_named_application_is_the_location_of_the_whole_site() {
    let text = "app = 'hello.wsgi'\n[[location]]\nprefix = '/x'\napp = 'x.y'";
    assert_eq!(lines(text), "/x -> app x.y\n/ -> app hello.wsgi");
}

#[test]
fn an_application_may_have_an_interpreter_of_its_own() {
    let text = "
        [[location]]
        prefix = '/a'
        app = 'a'
        venv = 'env'
        [[location]]
        prefix = '/b'
        app = 'b'
        chdir = 'b'
        [[location]]
        prefix = '/c'
        app = 'c'
        ";
    let setup = setup(text)
        .with_python("env/bin/python")
        .with_python("b/.venv/bin/python");
    let of = |flags: &[&str]| -> Vec<String> {
        let config = setup.config(flags);
        let paths = config
            .apps
            .iter()
            .map(|app| app.interpreter.path.display().to_string());
        paths.map(|path| setup.shorten(&path)).collect()
    };
    assert_eq!(
        of(&[]),
        ["env/bin/python", "b/.venv/bin/python", ".bin/python3"]
    );
    let all = setup.dir.path().join("b/.venv/bin/python");
    assert_eq!(
        of(&["--python", all.to_str().unwrap()]),
        ["env/bin/python", "b/.venv/bin/python", "b/.venv/bin/python"]
    );
    let both = "[[location]]\nprefix = '/a'\napp = 'a'\nvenv = 'x'\npython = 'y'";
    check_error(
        both,
        "pyserve.toml:5: [[location]] python = \"y\": pyserve.toml:4 names an interpreter as well (give only one of python and venv)",
    );
}

#[test]
fn mistakes_are_refused_with_place_and_remedy() {
    check_error(
        "[[location]]\nprefix = '/a'",
        "pyserve.toml:1: [[location]] has nothing that answers (give one of app, upstream, pass, static, file, redirect, respond, stub_status)",
    );
    check_error(
        "[[location]]\nredirect = '/a'\nrespond = 'b'",
        "pyserve.toml:1: [[location]] has both redirect and respond (give one of them, and another [[location]] for the other)",
    );
    check_error(
        "[[location]]\nredirekt = '/a'",
        "pyserve.toml:2: unknown setting \"redirekt\" (did you mean \"redirect\"?)",
    );
    let unknown = setup("[[location]]\nbind = '/a'").error(&[]);
    let begins = "pyserve.toml:2: unknown setting \"bind\" (a location has prefix, ";
    assert!(unknown.starts_with(begins), "{unknown}");
    check_error(
        "[[locations]]\nprefix = '/a'",
        "pyserve.toml:1: unknown setting \"locations\" (did you mean \"location\"?)",
    );
    check_error(
        "[location]\nprefix = '/a'",
        "pyserve.toml:1: location cannot be anything but tables (give each its own [[location]])",
    );
    check_error(
        "[[location]]\nrespond = 'x'\nmax_age = 5",
        "pyserve.toml:3: [[location]] max_age = \"5\": it means nothing beside respond (it belongs to static and file)",
    );
    check_error(
        "[[location]]\nprefix = 'a'\nrespond = 'x'",
        "pyserve.toml:2: [[location]] prefix = \"a\": the prefix does not start with `/` (give one as in `/media`)",
    );
    check_error(
        "[[location]]\nprefix = '/a'\nrespond = 'x'\n[[location]]\nprefix = '/a/'\nredirect = '/b'",
        "pyserve.toml:5: [[location]] prefix = \"/a\": another location has this prefix (pyserve.toml:1) \
         (locations with one prefix differ in `host`, `scheme`, `method`, `extension` or `segment`; also a static one \
         with `missing = \"app\"` can stand beside another, which gets what it does not have)",
    );
    check_error(
        "[[location]]\nprefix = '/a'\nstatic = 'nowhere'",
        "pyserve.toml:3: [[location]] static = \"nowhere\": there is no directory nowhere (give an existing one; relative paths are below .)",
    );
    check_error(
        "static = '/a=files'\n[[location]]\nprefix = '/a'\nstatic = 'files'",
        "pyserve.toml:3: [[location]] prefix = \"/a\": --static has this prefix, too (remove one of them)",
    );
    check_error(
        "app = 'hello.wsgi'\n[[location]]\nrespond = 'x'",
        "pyserve.toml:2: [[location]] prefix = \"/\": the application of --app answers there (give the location another prefix, or remove that one)",
    );
    check_error(
        "refork = 100\n[[location]]\nprefix = '/a'\napp = 'hello.wsgi'\npreload = 'no'",
        "pyserve.toml:2: [[location]] refork = \"100\": with `preload = no` workers share no template (leave one of both away)",
    );
}

#[test]
fn values_that_a_location_cannot_have_are_refused() {
    for (setting, problem) in [
        ("redirect = 'https://a.test/{host}'", "place of the host"),
        ("redirect = 'https://{host}.{host}'", "place of the host"),
        ("redirect = 'https://a:{host}@b.test'", "place of the host"),
        ("redirect = 'new'", "neither a path nor a URL"),
        ("redirect = '//evil.example'", "neither a path nor a URL"),
        ("redirect = 'javascript:x'", "neither a path nor a URL"),
        ("redirect = '/a b'", "percent-encoded"),
        ("redirect = '/\\evil'", "percent-encoded"),
        ("redirect = '/a'\nstatus = 200", "no redirect"),
        (
            "redirect = '/a?b'\nkeep_path = true",
            "nothing can be put behind",
        ),
        ("respond = 'x'\nstatus = 204", "no text with this status"),
        ("respond = 'x'\nstatus = 99", "no status"),
        ("respond = 'x'\ncontent_type = ''", "no media type"),
        (
            "respond = 'x'\nmax_body = 5",
            "it belongs to app and upstream",
        ),
        (
            "upstream = '127.0.0.1:80'",
            "[[location]] upstream = \"127.0.0.1:80\"",
        ),
        ("upstream = []", "no server"),
        (
            "upstream = 'uwsgi://10.0.0.1:3031'",
            "outside of this machine",
        ),
        (
            "upstream = ['http://127.0.0.1:1', 'uwsgi://127.0.0.1:2']",
            "servers of one kind",
        ),
        (
            "upstream = 'http://127.0.0.1:1'\nstrip_prefix = true\nreplace_prefix = '/x'",
            "says what becomes of the prefix",
        ),
        (
            "upstream = 'http://127.0.0.1:1'\nworkers = 2",
            "it belongs to app",
        ),
        (
            "starts_with = '/y'\nrespond = 'x'",
            "starts_with names the paths",
        ),
        ("app = 'x.py'", "there is no file x.py"),
        ("app = 'x'\nworkers = 0", "[[location]] workers = \"0\""),
        ("app = 'x'\nenv = 'A'", "no environment variable"),
        (
            "app = 'x'\nworkers = 1024\nthreads = 1024",
            "[[location]] workers = \"1024\": with 1024",
        ),
    ] {
        let text = format!("[[location]]\nprefix = '/x'\n{setting}");
        let error = setup(&text).error(&[]);
        assert!(error.contains(problem), "{setting}: {error}");
    }
}

#[test]
fn what_starts_so_precedes_shorter_prefixes_and_gives_way_to_segments() {
    let text = "
        [[location]]
        starts_with = '/old'
        redirect = '/new'

        [[location]]
        prefix = '/old'
        respond = 'whole'

        [[location]]
        path = '/Exact/'
        ignore_case = true
        respond = 'one'

        [[location]]
        starts_with = '/older'
        respond = 'longer'

        [[location]]
        starts_with = '/old/'
        respond = 'below'

        [[location]]
        prefix = '/'
        respond = 'all'
        ";
    assert_eq!(
        lines(text),
        "= /Exact/ -> respond 200 \"one\"\n\
         /older* -> respond 200 \"longer\"\n\
         /old/* -> respond 200 \"below\"\n\
         /old -> respond 200 \"whole\"\n\
         /old* -> redirect 302 to /new\n\
         / -> respond 200 \"all\""
    );
    for (setting, problem) in [
        ("starts_with = '/'\nrespond = ''", "give `prefix = \"/\"`"),
        ("starts_with = 'x'\nrespond = ''", "does not start with `/`"),
        (
            "starts_with = '/x'\npath = '/y'\nrespond = ''",
            "path names the one path",
        ),
        ("starts_with = '/x'\nstatic = 'files'", "a part of a name"),
        (
            "starts_with = '/x'\nfile = 'files/x'",
            "a file has one path",
        ),
        (
            "starts_with = '/x'\nredirect = '/y'\nkeep_path = true",
            "a part of a name",
        ),
        ("starts_with = '/x'\nredirect = '/x1'", "round in circles"),
        (
            "starts_with = '/x'\nupstream = 'http://127.0.0.1:1'\nreplace_prefix = '/y'",
            "a part of a name",
        ),
        (
            "starts_with = '/x'\nrespond = ''\n[[location]]\nstarts_with = '/x'\nrespond = ''",
            "another location has this starts_with",
        ),
        (
            "ignore_case = 5\nprefix = '/x'\nrespond = ''",
            "ignore_case",
        ),
    ] {
        let error = setup(&format!("[[location]]\n{setting}")).error(&[]);
        assert!(error.contains(problem), "{setting}: {error}");
    }
}

#[test]
fn each_application_may_have_a_largest_number_of_workers() {
    let text = "
        max_workers = 9

        [[location]]
        prefix = '/a'
        app = 'hello.wsgi'
        max_workers = 5

        [[location]]
        prefix = '/b'
        app = 'hello.wsgi'

        [[location]]
        prefix = '/c'
        app = 'hello.wsgi'
        workers = 12

        [[location]]
        prefix = '/d'
        app = 'hello.wsgi'
        preload = 'no'
        ";
    let setup = Setup::new(&[("hello/wsgi.py", ""), ("pyserve.toml", text)]);
    let config = setup.config(&[]);
    let numbers = config.apps.iter().map(|app| {
        let workers = &app.workers;
        (workers.count, workers.most)
    });
    let numbers: Vec<_> = numbers.collect();
    assert_eq!(numbers, [(1, 5), (1, 9), (12, 12), (1, 1)]);
}

#[test]
fn lists_without_a_value_and_methods_that_no_request_has_are_refused() {
    for (setting, problem) in [
        ("method = []", "method = \"\": an empty list"),
        ("segment = []", "segment = \"\": an empty list"),
        ("extension = []", "extension = \"\": an empty list"),
        ("host = []", "host = \"\": an empty list"),
        ("method = 5", "not the method of a request"),
        ("method = '*'", "leave it out for every method"),
        ("method = 'CONNECT'", "no location gets CONNECT"),
        (
            "method = ['GET', 'POST']\n[[location]]\nprefix = '/x'\nmethod = ['POST', 'PUT']\nrespond = 'y'",
            "another location has this prefix for one of its methods (pyserve.toml:1) (locations with one prefix differ in `host`",
        ),
    ] {
        let text = format!("[[location]]\nprefix = '/x'\nrespond = 'x'\n{setting}");
        let error = setup(&text).error(&[]);
        assert!(error.contains(problem), "{setting}: {error}");
    }
}
