//! Tests of the `[[location]]` tables: what they become, and what is refused.

use std::time::Duration;

use super::super::Missing;
use super::super::locations::Handler;
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
    assert!(config.app.is_none(), "a location answers in its place");
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
fn mistakes_are_refused_with_place_and_remedy() {
    check_error(
        "[[location]]\nprefix = '/a'",
        "pyserve.toml:1: [[location]] has nothing that answers (give one of static, redirect, respond)",
    );
    check_error(
        "[[location]]\nredirect = '/a'\nrespond = 'b'",
        "pyserve.toml:1: [[location]] has both redirect and respond (give one of them, and another [[location]] for the other)",
    );
    check_error(
        "[[location]]\nredirekt = '/a'",
        "pyserve.toml:2: unknown setting \"redirekt\" (did you mean \"redirect\"?)",
    );
    check_error(
        "[[location]]\nbind = '/a'",
        "pyserve.toml:2: unknown setting \"bind\" (a location has prefix, static, redirect, respond, missing, max_age, status, keep_path, content_type)",
    );
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
        "pyserve.toml:3: [[location]] max_age = \"5\": it means nothing beside respond (it belongs to static)",
    );
    check_error(
        "[[location]]\nprefix = 'a'\nrespond = 'x'",
        "pyserve.toml:2: [[location]] prefix = \"a\": the prefix does not start with `/` (give one as in `/media`)",
    );
    check_error(
        "[[location]]\nprefix = '/a'\nrespond = 'x'\n[[location]]\nprefix = '/a/'\nredirect = '/b'",
        "pyserve.toml:5: [[location]] prefix = \"/a\": another location has this prefix (pyserve.toml:1) \
         (give each prefix once; only a static one with `missing = \"app\"` can stand beside another, which gets what it does not have)",
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
    for (setting, problem) in [
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
    ] {
        let text = format!("[[location]]\nprefix = '/x'\n{setting}");
        let error = setup(&text).error(&[]);
        assert!(error.contains(problem), "{setting}: {error}");
    }
}
